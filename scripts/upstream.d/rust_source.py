# SPDX-License-Identifier: GPL-2.0
"""Changes to Rust sources that keep their meaning, and fail when they do not find their place."""

import re

# rustfmt's and checkpatch.pl's.
COLUMNS = 100


def replace(text, old, new):
    if text.count(old) != 1:
        raise SystemExit(f"upstream: expected once, found {text.count(old)} times: {old!r}")
    return text.replace(old, new)


def drop_item(text, name):
    """Drops the function, constant or module `name`, with its comments and attributes."""
    lines = text.split("\n")
    head = re.compile(rf"( *)(pub(\([^)]*\))? )?(const |unsafe )*(fn|mod|const) {name}\b")
    found = [number for number, line in enumerate(lines) if head.match(line)]
    if len(found) != 1:
        raise SystemExit(f"upstream: {len(found)} items are called {name}")
    first = last = found[0]
    indent = head.match(lines[first])[1]
    while re.match(rf"{indent}(//|#\[)", lines[first - 1]):
        first -= 1
    while lines[last] != indent + "}" and not (last == found[0] and lines[last].endswith(";")):
        last += 1
    # One of the blank lines around it goes too.
    if lines[first - 1] == "":
        first -= 1
    elif lines[last + 1 : last + 2] == [""]:
        last += 1
    return "\n".join(lines[:first] + lines[last + 1 :])


def chunks_of(text, name):
    """The top-level items of a file that are about the type `name`."""
    items = [item for item in re.split(r"\n\n(?=\S)", text) if re.search(rf"\b(struct|impl|for) {name}\b", item)]
    if not items:
        raise SystemExit(f"upstream: there is no type {name}")
    return "\n\n".join(item.strip("\n") for item in items) + "\n"


# Imports.


def parse_use(text):
    """The paths of a use tree, as lists of segments."""
    tokens = re.findall(r"[\w*]+(?: as \w+)?|[{},]", re.sub(r"//.*", "", text))
    paths = []

    def tree(prefix):
        path = list(prefix)
        while tokens and tokens[0] not in "},":
            token = tokens.pop(0)
            if token == "{":
                while tokens[0] != "}":
                    tree(path)
                    if tokens[0] == ",":
                        tokens.pop(0)
                tokens.pop(0)
                return
            path.append(token)
        paths.append(path)

    tree([])
    return paths


def order(name):
    """rustfmt's order: self, modules and functions, types, constants, each by name."""
    kind = 0 if name == "self" else 3 if name.isupper() else 2 if name[0].isupper() else 1
    return kind, name


def print_use(tree, indent):
    """A use tree as the kernel writes it: one name a line."""
    if not tree:
        return ""
    if len(tree) == 1:
        (name, below), = tree.items()
        return name + ("::" if below else "") + print_use(below, indent)
    lines = []
    for name in sorted(tree, key=order):
        item = print_use({name: tree[name]}, indent + "    ")
        lines.append(f"{indent}    {item},")
    if not lines[-1].endswith("},"):
        lines[-1] += " //"
    return "{\n" + "\n".join(lines) + f"\n{indent}}}"


def rewrite_uses(text, rewrite):
    """Applies `rewrite` to each imported path, and joins the imports that then have one root."""

    def block(match):
        indent, roots = match[1], {}
        for use in re.findall(r"use ([^;]+);", match[0]):
            for path in parse_use(use):
                tree = roots
                for segment in rewrite(path):
                    tree = tree.setdefault(segment, {})
        first = [name for name in ("self", "super", "crate") if name in roots]
        names = first + sorted(set(roots) - set(first))
        return "".join(f"{indent}use {print_use({name: roots[name]}, indent)};\n" for name in names)

    return re.sub(r"^( *)use [^;]+;\n(\1use [^;]+;\n)*", block, text, flags=re.M)


# Comments.


def fill(words, first, rest):
    lines, line = [], first
    for word in words:
        if line not in (first, rest) and len(line) + 1 + len(word) > COLUMNS:
            lines.append(line)
            line = rest
        line += word if line.endswith(" ") else " " + word
    return lines + [line]


def fill_comments(text):
    """Fills the paragraphs of comments that have a line that is too long."""
    out, lines = [], text.split("\n")
    comment = re.compile(r"( *//[/!]?)(?: (.*))?$")
    start = re.compile(r"(- |\d+\. )?")
    number = 0
    while number < len(lines):
        match = comment.match(lines[number])
        if not match or not match[2] or match[2].startswith(("#", "```", " ")):
            out.append(lines[number])
            number += 1
            continue
        mark = match[1]
        bullet = start.match(match[2])[0]
        paragraph = [lines[number]]
        number += 1
        while number < len(lines):
            more = comment.match(lines[number])
            if not more or more[1] != mark or not more[2] or more[2].startswith(("#", "```")) or start.match(more[2])[0]:
                break
            paragraph.append(lines[number])
            number += 1
        if any(len(line) > COLUMNS for line in paragraph):
            words = " ".join(comment.match(line)[2] for line in paragraph).split()
            skip = len(bullet.split())
            paragraph = fill(words[skip:], f"{mark} {bullet}", f"{mark} {' ' * len(bullet)}")
        out += paragraph
    return "\n".join(out)
