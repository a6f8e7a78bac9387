# SPDX-License-Identifier: GPL-2.0

SUMMARY = "Checkpoints of a partition in the free space of its file system: the tool"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://LICENSE;md5=b234ee4d69f5fce4486a80fdaf4a4263"

PV = "git"

inherit cargo externalsrc

EXTERNALSRC = "${DM_BOW_SOURCE}"
EXTERNALSRC_SYMLINKS = ""
CARGO_SRC_DIR = "tools"
CARGO_BUILD_FLAGS:append = " --package bowctl"

# Cargo.lock says which crates there are: there is no second list of them here.
def dm_bow_crates(d):
    import tomllib

    with open(os.path.join(d.getVar("DM_BOW_SOURCE"), "tools", "Cargo.lock"), "rb") as lock:
        crates = [crate for crate in tomllib.load(lock)["package"] if "crates.io" in crate.get("source", "")]
    for crate in crates:
        d.setVarFlag("SRC_URI", "{name}-{version}.sha256sum".format(**crate), crate["checksum"])
    return " ".join("crate://crates.io/{name}/{version}".format(**crate) for crate in crates)

SRC_URI = "${@dm_bow_crates(d)}"

# dmsetup; fsfreeze.
RDEPENDS:${PN} = "libdevmapper util-linux"

do_install() {
    install -D -m 755 "${B}/target/${CARGO_TARGET_SUBDIR}/bowctl" "${D}${sbindir}/bowctl"
}
