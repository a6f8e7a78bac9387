# SPDX-License-Identifier: GPL-2.0
"""What the abstractions have in C, in the form of the kernel's rust/helpers and rust/bindings."""

import re


class Helpers:
    """The functions of helpers.c. Only one that calls a kernel function and nothing else has a place in
    rust/helpers, under that function's name."""

    def __init__(self, text):
        self.functions = {}
        pattern = r"^([\w ]+[ *])helper_(\w+)\(([^)]*)\)\n\{\n(.*?)\n\}\n"
        for kind, name, parameters, body in re.findall(pattern, text, re.M | re.S):
            names = [] if parameters == "void" else [re.search(r"\w+$", one)[0] for one in parameters.split(", ")]
            call = re.fullmatch(r"\t(?:return )?(\w+)\((.*)\);", body)
            if call and call[2] == ", ".join(names):
                self.functions[name] = (call[1], kind, parameters, body)

    def target(self, name):
        """The kernel function behind `helper_NAME`."""
        if name not in self.functions:
            raise SystemExit(f"upstream: helper_{name} is no plain wrapper: leave out what uses it")
        return self.functions[name][0]

    def source(self, target):
        """The helper of a kernel function, as in rust/helpers."""
        _, kind, parameters, body = next(one for one in self.functions.values() if one[0] == target)
        start, name = f"__rust_helper {kind}", f"rust_helper_{target}({parameters})"
        if len(start + name) > 80:
            start = start.rstrip() + "\n"
        return f"\n{start}{name}\n{{\n{body}\n}}\n"


class Constants:
    """The constants of bindings_helper.h: macros that bindgen cannot evaluate."""

    # bindgen can evaluate these in the kernel's own bindings, where their types are not the C code's.
    PLAIN = {
        "BLK_STS_OK": "bindings::BLK_STS_OK as bindings::blk_status_t",
        "BIO_MAX_VECS": "bindings::BIO_MAX_VECS",
    }
    # The C code's types, which the module's bindings do without.
    TYPES = (("REQ_", "blk_opf_t"), ("BLK_STS_", "blk_status_t"), ("BLK_OPEN_", "blk_mode_t"), ("", "gfp_t"))

    def __init__(self, text):
        self.values = dict(re.findall(r"^static const \w+(?: \w+)* HELPER_(\w+) = (.+);$", text, re.M))

    def rust(self, name):
        """The Rust expression for `HELPER_NAME`."""
        value = self.values[name]
        return " | ".join(self.PLAIN.get(one, f"bindings::{one}") for one in value.split(" | "))

    def macros(self):
        return {one for value in self.values.values() for one in value.split(" | ")} - set(self.PLAIN)

    def source(self, macro):
        kind = next(kind for prefix, kind in self.TYPES if macro.startswith(prefix))
        return kind, f"const {kind} RUST_CONST_HELPER_{macro} = {macro};\n"


def add_include(text, header):
    """Adds an include to the longest list of its folder in a file, unless it is there."""
    line = f"#include <{header}>\n"
    if line in text:
        return text
    folder = header.split("/")[0]
    run = max(re.finditer(rf"(#include <{folder}/[^>]+>\n)+", text), key=lambda match: len(match[0]))
    place = run.end()
    for match in re.finditer(r"#include <([^>]+)>\n", run[0]):
        if match[1] > header:
            place = run.start() + match.start()
            break
    return text[:place] + line + text[place:]
