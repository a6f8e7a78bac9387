# SPDX-License-Identifier: GPL-2.0

SUMMARY = "Checkpoints of a partition in the free space of its file system: the module"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://LICENSE;md5=b234ee4d69f5fce4486a80fdaf4a4263"

PV = "git"

inherit module-rust externalsrc

EXTERNALSRC = "${DM_BOW_SOURCE}"
EXTERNALSRC_SYMLINKS = ""

# The module has bindings of its own for device-mapper.
DEPENDS += "clang-native bindgen-cli-native"

KERNEL_MODULE_AUTOLOAD += "dm-bow"

# As `make KDIR=` does it: Kbuild reads the checkout, and writes to the build folder.
dm_bow_make() {
    unset CFLAGS CPPFLAGS CXXFLAGS LDFLAGS
    oe_runmake -C ${STAGING_KERNEL_DIR} O=${STAGING_KERNEL_BUILDDIR} M=${S} MO=${B} \
        CC="${KERNEL_CC}" LD="${KERNEL_LD}" AR="${KERNEL_AR}" OBJCOPY="${KERNEL_OBJCOPY}" STRIP="${KERNEL_STRIP}" "$@"
}

do_configure[noexec] = "1"

do_compile() {
    case "${KERNEL_VERSION}" in
    [0-6].*|7.[01][.-]*) bbfatal "dm-bow needs a kernel 7.2 or newer, and this is ${KERNEL_VERSION} (Documentation/development.md, Yocto)." ;;
    esac
    grep -q '^CONFIG_RUST=y' ${STAGING_KERNEL_BUILDDIR}/.config ||
        bbfatal "this kernel was built without Rust: KERNEL_FEATURES:append = \" rust\" (Documentation/development.md, Yocto)."
    dm_bow_make modules
}

do_install() {
    dm_bow_make modules_install DEPMOD=true MODLIB="${D}${nonarch_base_libdir}/modules/${KERNEL_VERSION}"
}
