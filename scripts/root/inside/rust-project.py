#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rust-project.py IN OUT CHECKOUT MODULE-BUILD ROOT

Adds the module's crate to the project file that the kernel makes, which looks
for crate roots only beside a Kbuild, and names the build root's standard
library where it names /usr.
"""

import json
import sys

project_in, project_out, checkout, module, root = sys.argv[1:]
with open(project_in, encoding="utf-8") as file:
    project = json.loads(file.read().replace('"/usr', f'"{root}/usr'))
index = {crate["display_name"]: number for number, crate in enumerate(project["crates"])}
kernel = project["crates"][index["kernel"]]
names = ["core", "kernel", "pin_init", "zerocopy", "zerocopy_derive", "ffi"]
project["crates"].append({
    "display_name": "dm_bow",
    "root_module": f"{checkout}/src/dm_bow.rs",
    "is_workspace_member": True,
    "deps": [{"crate": index[name], "name": name} for name in names if name in index],
    "cfg": kernel["cfg"] + ["MODULE"],
    "edition": "2021",
    "env": {
        "RUST_MODFILE": "This is only for rust-analyzer",
        "DM_BOW_BINDINGS": f"{module}/src/abstractions/bindings_generated.rs",
    },
    "source": {"include_dirs": [f"{checkout}/src", f"{module}/src"], "exclude_dirs": []},
})
with open(project_out, "w", encoding="utf-8") as file:
    json.dump(project, file, indent=4)
