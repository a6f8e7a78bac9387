# SPDX-License-Identifier: GPL-2.0
"""patches.py CHECKOUT TREE SCRATCH OUT: writes the abstractions as patches for the kernel whose source is TREE.

Each patch is made from the sources as they are: names that the kernel crate has in other places, the
visibility of its items, its columns, C helpers and constants in its files. What is left out is named here,
in a `drop`, with the reason.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from c_source import Constants, Helpers, add_include
from rust_source import chunks_of, drop_item, fill_comments, replace, rewrite_uses

CHECKOUT, TREE, SCRATCH, OUT = (pathlib.Path(argument) for argument in sys.argv[1:])
HERE = pathlib.Path(__file__).parent
ABSTRACTIONS = CHECKOUT / "src/abstractions"
LINUX = SCRATCH / "linux"

HELPERS = Helpers((ABSTRACTIONS / "helpers.c").read_text())
CONSTANTS = Constants((ABSTRACTIONS / "bindings_helper.h").read_text())

BINDINGS = "rust/bindings/bindings_helper.h"

# The files of rust/helpers by the functions they wrap, with a header that such a file lacks.
HELPER_FILES = (
    (r"srcu_", "rust/helpers/srcu.c", None),
    (r"bdev_", "rust/helpers/blk.c", None),
    (r"bio_", "rust/helpers/blk.c", "linux/bio.h"),
    (r"page_", "rust/helpers/page.c", None),
    (r"memalloc_", "rust/helpers/mm.c", None),
)

# Where imports come from in the kernel crate; the first prefix that fits.
PATHS = (
    ("crate::abstractions::bindings as dm_bindings", "crate::bindings"),
    ("super::bindings as dm_bindings", "crate::bindings"),
    ("super::series::new_srcu", "crate::new_srcu"),
    ("super::series::Srcu", "crate::sync::Srcu"),
    ("crate::abstractions::workqueue::NoIo", "super::noio::NoIo"),
    ("crate::abstractions::srcu", "crate::sync::srcu_cell"),
    ("crate::abstractions", "crate"),
    ("abstractions", "kernel"),
)

# Of a file whose tests alone use the prelude: it would be unused where they are not built.
PRELUDE = "use kernel::{\n    bindings,\n    prelude::*, //\n};\n"

# What checkpatch.pl may say of a patch, and why a reviewer would let it pass. Nothing else passes.
ACCEPTED = {
    # The tag is a person's to give: whoever sends the patches adds it.
    (1, "MISSING_SIGN_OFF"): "the sender adds it",
    (2, "MISSING_SIGN_OFF"): "the sender adds it",
    (3, "MISSING_SIGN_OFF"): "the sender adds it",
    # The entry BLOCK LAYER DEVICE DRIVER API [RUST] has the folder of the new files.
    (2, "FILE_PATH_CHANGES"): "MAINTAINERS has rust/kernel/block/",
}


# Files.


def read(path):
    """A file of the kernel, as the patches so far have left it."""
    if not (LINUX / path).exists():
        raise SystemExit(f"upstream: {path} is no file of the first commit")
    return (LINUX / path).read_text()


def write(path, text):
    (LINUX / path).parent.mkdir(parents=True, exist_ok=True)
    (LINUX / path).write_text(text)


def edit(path, old, new):
    write(path, replace(read(path), old, new))


# Sources.


def imported(path):
    text = "::".join(path)
    for old, new in PATHS:
        if text == old or text.startswith(old + "::"):
            text = new + text[len(old) :]
            break
    return text


def in_crate(path):
    return re.sub(r"^kernel::", "crate::", imported(path)).split("::")


def in_module(path):
    return imported(path).split("::")


def visible(text):
    """Items of the abstractions are the crate's interface. What they share among themselves is `pub(crate)`,
    but for functions whose only caller comes with a later patch or is not always built."""
    text = re.sub(r"pub\(in crate::abstractions\) (?=(unsafe |const )*fn\b)", "pub ", text)
    text = text.replace("pub(in crate::abstractions)", "pub(crate)\0")
    text = re.sub(r"pub\(crate\)(?!\0)", "pub", text)
    return text.replace("\0", "")


def c_names(text):
    text = re.sub(r"dm_bindings::helper_(\w+)", lambda name: f"bindings::{HELPERS.target(name[1])}", text)
    text = re.sub(r"dm_bindings::HELPER_(\w+)", lambda name: CONSTANTS.rust(name[1]), text)
    text = re.sub(r"`helper_(\w+)`", lambda name: f"`{HELPERS.target(name[1])}`", text)
    return text.replace("dm_bindings::", "bindings::")


def kernel_source(text, changes=(), drop=(), option=None, suite=None):
    """A source of the abstractions as one of the kernel crate. Its tests are built with the Kconfig
    option `option`, and are the suite `suite`."""
    for name in drop:
        text = drop_item(text, name)
    for old, new in changes:
        text = replace(text, old, new)
    text = rewrite_uses(text, in_crate)
    text = c_names(visible(text))
    text = re.sub(r"\bkernel::(?=\w)", "crate::", text)
    if suite:
        text, count = re.subn(
            r"#\[kunit_tests\(\w+\)\]", f"#[cfg(CONFIG_{option})]\n#[macros::kunit_tests({suite})]", text
        )
        if count != 1:
            raise SystemExit(f"upstream: {suite}: there are {count} test modules")
    return fill_comments(text)


def finish(path, text):
    """Writes a new file, if nothing of the module is left in it."""
    left = re.search(r".*(abstractions|dm_bindings|helper_|HELPER_|\bbow\b|dm_bow|dm-bow).*", text)
    if left:
        raise SystemExit(f"upstream: {path} still has: {left[0].strip()}")
    write(path, text)


def add_c_code(sources, headers):
    """Adds the helpers and constants that the bindings lack and `sources` use."""
    text = "".join(read(path) for path in sources)
    bindings = read(BINDINGS)
    for header in headers:
        bindings = add_include(bindings, header)
    for macro in sorted(CONSTANTS.macros(), key=lambda name: (name[0] == "_", name)):
        line = f"RUST_CONST_HELPER_{macro} ="
        if re.search(rf"bindings::{macro}\b", text) and line not in bindings:
            kind, source = CONSTANTS.source(macro)
            before = "blk_features_t" if kind == "gfp_t" else "fop_flags_t"
            bindings = replace(bindings, f"const {before} RUST_CONST", f"{source}const {before} RUST_CONST")
    write(BINDINGS, bindings)
    for target in sorted({function[0] for function in HELPERS.functions.values()}):
        if not re.search(rf"bindings::{target}\(", text):
            continue
        path, header = next((path, header) for prefix, path, header in HELPER_FILES if re.match(prefix, target))
        helpers = read(path)
        if f"rust_helper_{target}(" in helpers:
            continue
        if header:
            helpers = add_include(helpers, header)
        write(path, helpers + HELPERS.source(target))


def add_test_option(option, title, what, depends=""):
    config = "rust/kernel/Kconfig.test"
    text = read(config)
    entry = f"""config {option}
	bool "KUnit tests for {title}" if !KUNIT_ALL_TESTS
{depends}	default KUNIT_ALL_TESTS
	help
	  This option enables KUnit tests for {what}.
	  These are only for development and testing, not for regular
	  kernel use cases.

	  If unsure, say N.

"""
    if not text.endswith("\nendif\n"):
        raise SystemExit(f"upstream: {config} does not end as it did")
    write(config, text[: -len("endif\n")] + entry + "endif\n")


# Patches.


def srcu():
    source = (ABSTRACTIONS / "srcu.rs").read_text()
    cell = "rust/kernel/sync/srcu_cell.rs"
    finish(
        cell,
        kernel_source(
            source,
            changes=[
                (
                    "//! Beside [`kernel::sync::Srcu`], whose guards cannot leave their thread, this needs\n"
                    "//! `srcu_down_read()` and `srcu_up_read()`.\n",
                    "//! A guard of an [`Srcu`] cannot leave its thread. A ticket can: it is made by `srcu_down_read()`\n"
                    "//! and dropped by `srcu_up_read()`.\n",
                ),
                ('new_srcu!("dm_srcu_cell")', 'new_srcu!("srcu_cell")'),
                ('new_work!("dm_bow_test")', 'new_work!("srcu_cell_test")'),
            ],
            option="RUST_SRCU_CELL_KUNIT_TEST",
            suite="rust_srcu_cell",
        ),
    )
    edit("rust/kernel/sync.rs", "pub mod srcu;\n", "pub mod srcu;\npub mod srcu_cell;\n")
    edit("rust/kernel/sync.rs", "pub use srcu::Srcu;\n", "pub use srcu::Srcu;\npub use srcu_cell::SrcuCell;\n")
    add_c_code([cell], [])
    add_test_option("RUST_SRCU_CELL_KUNIT_TEST", "the Rust SrcuCell API", "the Rust SrcuCell API")
    edit("MAINTAINERS", "F:\trust/kernel/sync/srcu.rs\n", f"F:\trust/kernel/sync/srcu.rs\nF:\t{cell}\n")


def block():
    option = "RUST_BLOCK_KUNIT_TEST"
    sources = {
        "bio": dict(
            suite="rust_block_bio",
            # Its helper is more than a wrapper, and dm-bow is its only user.
            drop=["no_bio_is_pending"],
            changes=[
                (
                    "Operations and statuses of bios, and the bios of the current thread.",
                    "Operations and statuses of bios, and plugging.",
                ),
                (PRELUDE, "use kernel::bindings;\n"),
            ],
        ),
        "bio_set": dict(),
        "buffer": dict(
            suite="rust_block_buffer",
            # CRC-32 is a library that a kernel may have as a module, or not at all.
            drop=[
                "crc32",
                "naive",
                "pattern",
                "checksums_are_what_the_log_says",
                "a_checksum_goes_over_pages_and_chunks",
            ],
        ),
        "device": {},
    }
    for name, how in sources.items():
        text = (ABSTRACTIONS / f"block/{name}.rs").read_text()
        if name == "buffer":
            # The method first; then the function of that name is the only one.
            text = drop_method(text, "crc32")
        finish(f"rust/kernel/block/{name}.rs", kernel_source(text, option=option, **how))
    modules = "".join(f"pub mod {name};\n" for name in sources)
    edit("rust/kernel/block.rs", "pub mod mq;\n", modules + "pub mod mq;\n")
    add_c_code([f"rust/kernel/block/{name}.rs" for name in sources], ["linux/bio.h"])
    add_test_option(option, "the Rust bio and buffer API", "the Rust bio and buffer API", "\tdepends on BLOCK\n")


def drop_method(text, name):
    start = text.index("\nimpl Buffer {")
    end = text.index("\n}\n", start)
    return text[:start] + drop_item(text[start:end], name) + text[end:]


def dm():
    option = "RUST_DM_KUNIT_TEST"
    folder = "rust/kernel/dm"
    sample = "samples/rust/rust_dm_linear.rs"
    names = ["args", "bio", "bio_list", "events", "instances", "registration", "table", "target"]
    how = {
        "bio_list": dict(
            option=option,
            suite="rust_dm_bio_list",
            changes=[
                (PRELUDE, "use kernel::bindings;\n"),
                ("    use super::*;\n", "    use super::*;\n    use kernel::prelude::*;\n"),
            ],
        ),
        # For sysfs.rs, which is not in these patches. Nothing else looks at the table that goes live.
        "table": dict(
            drop=["kobject"],
            changes=[
                ("\n\nimpl LiveTable<'_> {\n}", ""),
                (
                    "/// Table that goes live.\npub(crate) struct LiveTable<'a> {\n    pub(super) ti:",
                    "/// Table that goes live. It has nothing for a target to ask yet.\n"
                    "pub(crate) struct LiveTable<'a> {\n    pub(super) _ti:",
                ),
            ],
        ),
        "registration": dict(changes=[("&LiveTable { ti }", "&LiveTable { _ti: ti }")]),
    }
    for name in names:
        text = (ABSTRACTIONS / f"dm/{name}.rs").read_text()
        finish(f"{folder}/{name}.rs", kernel_source(text, **how.get(name, {})))
    # All of workqueue.rs that the list of table lines needs.
    scope = chunks_of((ABSTRACTIONS / "workqueue.rs").read_text(), "NoIo").replace("pub(crate)", "pub(super)")
    header = "// SPDX-License-Identifier: GPL-2.0\n\n//! Allocations that do not wait for I/O.\n\n"
    finish(f"{folder}/noio.rs", kernel_source(header + "use kernel::bindings;\n\n" + scope))
    finish(
        f"{folder}.rs",
        kernel_source(
            (ABSTRACTIONS / "dm/mod.rs").read_text(),
            changes=[
                (
                    "dm-linear, whole, is in `tests/kernel/modules/dm_rust_linear.rs`; a selftest runs it.",
                    f"dm-linear, whole, is in `{sample}`.",
                ),
                ("super::block::device::Device", "crate::block::device::Device"),
                ("mod instances;\n", "mod instances;\nmod noio;\n"),
            ],
        ),
    )
    edit("rust/kernel/lib.rs", "pub mod devres;\n", 'pub mod devres;\n#[cfg(CONFIG_BLK_DEV_DM = "y")]\npub mod dm;\n')
    add_c_code([f"{folder}/{name}.rs" for name in names + ["noio"]], ["linux/device-mapper.h"])
    add_test_option(option, "the Rust device-mapper API", "the Rust device-mapper API", "\tdepends on BLK_DEV_DM=y\n")
    add_sample(sample)
    edit(
        "MAINTAINERS",
        "F:\tinclude/uapi/linux/dm-*.h\n",
        f"F:\tinclude/uapi/linux/dm-*.h\nF:\t{folder}.rs\nF:\t{folder}/\nF:\t{sample}\n",
    )


def add_sample(path):
    text = (CHECKOUT / "tests/kernel/modules/dm_rust_linear.rs").read_text()
    for old, new in (
        ('#![allow(dead_code, reason = "a small target uses a part of the abstractions")]\n\n', ""),
        ('#[path = "../../../src/abstractions/mod.rs"]\nmod abstractions;\n\n', ""),
        ('name: "dm_rust_linear"', 'name: "rust_dm_linear"'),
        ("The dm-bow authors", "Rust for Linux Contributors"),
        ('license: "GPL v2"', 'license: "GPL"'),
    ):
        text = replace(text, old, new)
    finish(path, fill_comments(rewrite_uses(text, in_module)))
    edit(
        "samples/rust/Makefile",
        "obj-$(CONFIG_SAMPLE_RUST_DMA)\t\t\t+= rust_dma.o\n",
        "obj-$(CONFIG_SAMPLE_RUST_DM_LINEAR)\t\t+= rust_dm_linear.o\n"
        "obj-$(CONFIG_SAMPLE_RUST_DMA)\t\t\t+= rust_dma.o\n",
    )
    edit(
        "samples/rust/Kconfig",
        "config SAMPLE_RUST_DMA\n",
        """config SAMPLE_RUST_DM_LINEAR
	tristate "Device-mapper linear target"
	depends on BLK_DEV_DM=y
	help
	  This option builds the Rust device-mapper sample: a target
	  "rust-linear" that does what the target "linear" does.

	  To compile this as a module, choose M here:
	  the module will be called rust_dm_linear.

	  If unsure, say N.

config SAMPLE_RUST_DMA
""",
    )


PATCHES = ((srcu, "srcu.txt"), (block, "block.txt"), (dm, "dm.txt"))

# The files that are there and change.
CHANGED = (
    "MAINTAINERS",
    BINDINGS,
    *sorted({path for _, path, _ in HELPER_FILES}),
    "rust/kernel/Kconfig.test",
    "rust/kernel/block.rs",
    "rust/kernel/lib.rs",
    "rust/kernel/sync.rs",
    "samples/rust/Kconfig",
    "samples/rust/Makefile",
)


# Git, and the checks.


def git(*arguments):
    return subprocess.run(("git", *arguments), cwd=LINUX, check=True, stdout=subprocess.PIPE, text=True).stdout


def commit(message):
    git("add", "-A")
    git("commit", "-q", "-F", message)


def format_rust():
    new = git("ls-files", "-o", "--exclude-standard", "*.rs").split()
    subprocess.run(
        ("rustfmt", "--edition", "2021", "--config-path", TREE / ".rustfmt.toml", "--config", "skip_children=true", *new),
        cwd=LINUX,
        check=True,
        stderr=subprocess.DEVNULL,
    )


def write_patches():
    for path in CHANGED:
        (LINUX / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / path, LINUX / path)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "the kernel's files")
    for make, message in PATCHES:
        make()
        format_rust()
        commit(HERE / message)
    git(
        "format-patch", "-q", "--zero-commit", "--no-signature", "--cover-letter", "--subject-prefix=RFC PATCH",
        "-o", OUT, f"-{len(PATCHES)}",
    )
    cover = OUT / "0000-cover-letter.patch"
    subject, blurb = (HERE / "cover.txt").read_text().split("\n\n", 1)
    version = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", (TREE / "Makefile").read_text(), re.M))
    blurb = replace(blurb, "@VERSION@", "{VERSION}.{PATCHLEVEL}.{SUBLEVEL}".format(**version))
    text = replace(cover.read_text(), "*** SUBJECT HERE ***", subject)
    cover.write_text(replace(text, "*** BLURB HERE ***", blurb.rstrip("\n")))
    return sorted(OUT.glob("000[1-9]-*.patch"))


def check_apply(patches):
    """One after the other, on the kernel's source itself."""
    series = "".join(patch.read_text() for patch in patches)
    # Below a repository of somebody's, git would pass over everything and call it a success.
    environment = dict(os.environ, GIT_CEILING_DIRECTORIES=str(TREE.parent))
    result = subprocess.run(
        ("git", "apply", "--check", "-v"), input=series, cwd=TREE, env=environment, text=True, stderr=subprocess.PIPE
    )
    checked = result.stderr.count("Checking patch ")
    print(f"git apply --check: {checked} changes of files")
    if result.returncode or checked != series.count("\ndiff --git "):
        print(result.stderr)
        return False
    return True


def checkpatch(number, patch):
    output = subprocess.run(
        ("perl", "scripts/checkpatch.pl", "--strict", "--show-types", "--color=never", patch),
        cwd=TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    if not re.search(r"^total: \d+ errors, \d+ warnings, \d+ checks, [1-9]\d* lines checked$", output, re.M):
        print(output)
        return False
    good = True
    print(f"checkpatch.pl --strict {patch.name}:", re.search(r"^total: (.*)$", output, re.M)[1])
    for level, kind, text in re.findall(r"^(ERROR|WARNING|CHECK):(\w+): ((?:.+\n)*)", output, re.M):
        reason = ACCEPTED.get((number, kind))
        good &= reason is not None
        verdict = f"accepted: {reason}" if reason else "NOT ACCEPTED"
        print(f"  {level} {kind} ({verdict})")
        print("    " + text.rstrip("\n").replace("\n", "\n    "))
    return good


patches = write_patches()
results = [len(patches) == len(PATCHES), check_apply(patches)]
results += [checkpatch(number, patch) for number, patch in enumerate(patches, 1)]
sys.exit(0 if all(results) else 1)
