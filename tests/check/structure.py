#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Checks of the sources that no compiler makes.

    git ls-files | tests/check/structure.py CHECK

reads the names of files from its input, relative to the current folder, and prints a line FILE:LINE: MESSAGE
for each finding. It exits with 1 if there is one. The checks:

import-circles
    There is no circle of imports in src/. In each folder the files and the folders are the nodes. An edge
    goes from one to another if a module in the first names an item of a module in the second, in a `use` or
    by a path in code that begins with `crate`, `super`, `self` or a child module. The root of src/ is such a
    folder too, so that there is no circle between the layers either. A `mod.rs` is a node of its folder. For
    its children it counts like a sibling: they must not import from it if it imports from them.
    - A declaration (`mod x;`), a visibility (`pub(in crate::x)`) and a comment import nothing.
    - A re-export imports nothing unless the file uses the name itself. Who imports a re-exported name imports
      from the module that it comes from.
    - src/bow is looked at from outside only: its `mod.rs` declares one struct whose fields have types of the
      children, and each child adds methods to that struct.

unsafe-operations
    A block `unsafe { ... }` in src/ has one statement and one unsafe operation. Operations are calls of unsafe
    functions (those of the bindings, those that src/ declares, and the known ones of the libraries) and
    dereferences. The dereference in a place that a call works on (`take(&mut (*p).field)`) is no operation of
    its own; that of the result of an unsafe call (`&*f(p)`) is.

invariants
    In src/ and tools/, a type whose documentation has a section `# Invariants` has a comment `// INVARIANT:`
    where a value is made or changed, in the same file. The comment is for the types that the statement after
    it names, or else for the type of the `impl` around it. A section in the documentation of a module asks
    for one such comment in the file.

file-length
    No file in src/ has more than 600 lines.

doc-words
    No doc comment in src/, tools/ and tests/ begins with What, How, Where, Which, Whether or So.

guillemets
    No text file has the quotation marks U+00AB and U+00BB.
"""

import re
import sys
from collections import namedtuple
from pathlib import Path, PurePosixPath

LINES_MAX = 600
CRATE_ROOT = "src/dm_bow.rs"
# Folders of modules that count as one node.
ONE_NODE = {("bow",)}

DOC_WORD = re.compile(r"[\W_]*(What|How|Where|Which|Whether|So)\b")

UNSAFE_METHODS = {
    "add", "as_mut", "as_ref", "byte_add", "byte_sub", "copy_from", "copy_from_nonoverlapping", "copy_to",
    "copy_to_nonoverlapping", "get_unchecked", "get_unchecked_mut", "offset", "offset_from", "read",
    "read_unaligned", "read_volatile", "sub", "unwrap_unchecked", "write", "write_bytes", "write_unaligned",
    "write_volatile",
}
UNSAFE_FUNCTIONS = {
    "copy_nonoverlapping", "drop_in_place", "from_char_ptr", "from_raw", "from_raw_parts", "from_raw_parts_mut",
    "from_utf8_unchecked", "new_unchecked", "transmute", "unreachable_unchecked", "write_bytes", "zeroed",
    ("ManuallyDrop", "drop"), ("ManuallyDrop", "take"), ("ptr", "copy"), ("ptr", "read"), ("ptr", "replace"),
    ("ptr", "swap"), ("ptr", "write"),
}
UNSAFE_MACROS = {"container_of"}

Finding = namedtuple("Finding", "file line message")
Token = namedtuple("Token", "kind text line")

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<comment>//[^\n]*)
    | (?P<block>/\*)
    | (?P<string>\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'\n])')
    | (?P<lifetime>'\w+)
    | (?P<word>(?:r\#)?\w+)
    | (?P<mark>::|->|=>|&&|\|\||[-+*/%^&|<>=!]=|\.\.=?|.)
    """,
    re.DOTALL | re.VERBOSE,
)

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = set(OPEN.values())


def tokens_of(text):
    """Returns the tokens of a Rust file. A comment is one; spaces are none."""
    tokens, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        kind, end = match.lastgroup, match.end()
        if match["hashes"] is not None:
            kind = "string"
        if kind == "block":
            kind, end = "comment", end_of_block_comment(text, at)
        if kind != "space":
            tokens.append(Token(kind, text[at:end], line))
        line += text.count("\n", at, end)
        at = end
    return tokens


def end_of_block_comment(text, at):
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


class Source:
    """A Rust file: all its tokens, those of its code, and for each of these the one that ends its group."""

    def __init__(self, name):
        self.name = name
        self.tokens = tokens_of(Path(name).read_text(encoding="utf-8"))
        self.code = [token for token in self.tokens if token.kind != "comment"]
        self.closes = {}
        groups = []
        for index, token in enumerate(self.code):
            if token.kind == "mark" and token.text in OPEN:
                groups.append(index)
            elif token.kind == "mark" and token.text in CLOSE and groups:
                self.closes[groups.pop()] = index

    def text(self, index):
        """Returns the text of a token of the code; nothing for strings, and outside of the file."""
        if 0 <= index < len(self.code) and self.code[index].kind not in ("string", "char"):
            return self.code[index].text
        return ""

    def is_word(self, index):
        return 0 <= index < len(self.code) and self.code[index].kind == "word"

    def after_visibility(self, index):
        """Returns where a `pub` with its restriction ends."""
        index += 1
        if self.text(index) == "(" and self.text(index + 1) in ("in", "crate", "super", "self"):
            index = self.closes.get(index, index) + 1
        return index

    def impls(self):
        """Returns first token, last token and name of the type of each `impl`."""
        found = []
        for index in range(len(self.code)):
            if self.text(index) != "impl" or self.text(index - 1) in ("(", "->", ":", "<", ",", "&", "=", "+"):
                continue
            name, depth, at = "", 0, index + 1
            while at < len(self.code) and not (self.text(at) in ("{", ";") and depth == 0):
                if self.text(at) == "where" and depth == 0:
                    break
                depth += {"<": 1, ">": -1}.get(self.text(at), 0)
                if depth == 0 and self.is_word(at) and self.text(at) != "for":
                    name = self.text(at)
                at += 1
            while at < len(self.code) and self.text(at) != "{":
                at += 1
            if at in self.closes:
                found.append((at, self.closes[at], name))
        return found


def rust_sources(names, *folders):
    return [Source(name) for name in names if name.endswith(".rs") and name.startswith(folders)]


# Import circles


class Modules:
    """The modules of src/ by their paths, and what each imports."""

    def __init__(self, sources):
        self.sources = {self.module(source.name): source for source in sources}
        self.imports = []
        self.reexports = {}
        # Of all modules first, since others look through them.
        uses = {module: self.uses(module, source) for module, source in self.sources.items()}
        for module, source in self.sources.items():
            skipped, found = uses[module]
            own = {self.sources[module].text(index) for index in range(len(source.code)) if index not in skipped}
            for path, _, line, is_exported in found:
                if not is_exported or path[-1] in own:
                    self.add(module, path, line)
            for path, line in self.paths_in_code(module, source, skipped):
                self.add(module, path, line)

    @staticmethod
    def module(name):
        if name == CRATE_ROOT:
            return ()
        parts = PurePosixPath(name).with_suffix("").parts[1:]
        return parts[:-1] if parts[-1] == "mod" else parts

    def place(self, module):
        """Returns the folders down to a module, and the name of its file at the end."""
        path = PurePosixPath(self.sources[module].name)
        return path.parts[1:] if path.name == "mod.rs" else path.parts[1:-1] + (path.stem,)

    def add(self, module, path, line):
        target = self.home(path)
        if target != module:
            self.imports.append((module, target, line))

    def home(self, path):
        """Returns the module that a path from the root leads to."""
        for _ in range(len(self.reexports) + 1):
            module = ()
            for at, name in enumerate(path):
                if module + (name,) in self.sources:
                    module += (name,)
                    continue
                path_of_name = self.reexports.get(module + (name,))
                if path_of_name is None:
                    return module
                path = path_of_name + path[at + 1 :]
                break
            else:
                return module
        return module

    def absolute(self, module, path):
        """Returns a path from the root, or nothing if the path leads out of the crate."""
        if path[0] == "crate":
            return path[1:]
        if path[0] in ("self", "super"):
            while path and path[0] in ("self", "super"):
                module, path = module[:-1] if path[0] == "super" else module, path[1:]
            return module + path
        return module + path if module + path[:1] in self.sources else None

    @staticmethod
    def scopes(module, source):
        """Yields each token of the code with the module it is in, which may be one within the file."""
        ends = []
        for index in range(len(source.code)):
            while ends and index > ends[-1]:
                ends.pop()
                module = module[:-1]
            if source.text(index) == "mod" and source.text(index + 2) == "{":
                ends.append(source.closes[index + 2])
                module += (source.text(index + 1),)
            yield index, module

    def uses(self, module, source):
        """Returns the tokens of all `use` declarations and visibilities, and the paths of the former."""
        skipped, found = set(), []
        for index, scope in self.scopes(module, source):
            if index in skipped:
                continue
            start, is_exported = index, False
            if source.text(index) == "pub":
                start = source.after_visibility(index)
                skipped.update(range(index, start))
                is_exported = True
            if source.text(start) != "use" or not source.is_word(start):
                continue
            end = start
            while end < len(source.code) and source.text(end) != ";":
                end += 1
            skipped.update(range(start, end + 1))
            for path, alias, at in self.tree(source, start + 1, end):
                path = self.absolute(scope, path)
                if not path:
                    continue
                is_plain = is_exported and alias != "*"
                if is_plain:
                    self.reexports[scope + (alias,)] = path
                found.append((path, alias, source.code[at].line, is_plain))
        return skipped, found

    def tree(self, source, start, end, prefix=()):
        """Yields path, name and last token of each leaf of a tree of `use`, which ends before `end`."""
        path, at = prefix, start
        while at < end:
            text = source.text(at)
            if text == "{":
                close = source.closes[at]
                yield from self.tree(source, at + 1, close, path)
                path, at = None, close + 1
            elif text == ",":
                if path and path != prefix:
                    yield path, path[-1], at - 1
                path, at = prefix, at + 1
            elif text == "as":
                yield path, source.text(at + 1), at + 1
                path, at = None, at + 2
            elif text == "*":
                yield path, "*", at
                path, at = None, at + 1
            elif text == "self" and prefix:
                yield path, path[-1], at
                path, at = None, at + 1
            else:
                if source.is_word(at):
                    path += (text,)
                at += 1
        if path and path != prefix:
            yield path, path[-1], end - 1

    def paths_in_code(self, module, source, skipped):
        for index, scope in self.scopes(module, source):
            if index in skipped or not source.is_word(index) or source.text(index + 1) != "::":
                continue
            if source.text(index - 1) in ("::", "."):
                continue
            path, at = (source.text(index),), index + 1
            while source.text(at) == "::" and source.is_word(at + 1):
                path += (source.text(at + 1),)
                at += 2
            path = self.absolute(scope, path)
            if path:
                yield path, source.code[index].line


def circles(edges):
    """Returns the shortest circle through each node of a graph, each circle once."""
    found = {}
    for start in sorted(edges):
        before, queue = {}, [start]
        while queue and start not in before:
            node = queue.pop(0)
            for other in sorted(edges.get(node, ())):
                if other not in before:
                    before[other] = node
                    queue.append(other)
        if start in before:
            circle = [start]
            while before[circle[-1]] != start:
                circle.append(before[circle[-1]])
            circle = [start] + circle[:0:-1]
            found.setdefault(frozenset(circle), circle)
    return list(found.values())


def import_circles(names):
    sources = rust_sources(names, "src/")
    modules = Modules(sources)
    folders = {}
    for module, target, line in sorted(modules.imports):
        here, there = modules.place(module), modules.place(target)
        depth = next(at for at, (one, other) in enumerate(zip(here, there)) if one != other)
        if not any(here[: len(folder)] == folder for folder in ONE_NODE if len(folder) <= depth):
            edges = folders.setdefault(here[:depth], {}).setdefault(here[depth], {})
            edges.setdefault(there[depth], (modules.sources[module].name, line, modules.sources[target].name))
    for folder, edges in sorted(folders.items()):
        for circle in circles(edges):
            names = " -> ".join(circle + circle[:1])
            for one, other in zip(circle, circle[1:] + circle[:1]):
                name, line, target = edges[one][other]
                yield Finding(name, line, f"imports {target}: circle in {'/'.join(('src',) + folder)}: {names}")
    if not sources:
        yield Finding("src", 0, "there are no sources")


# Unsafe operations


def unsafe_functions(sources):
    """Returns the unsafe functions of the sources: names, with that of the type before, and methods."""
    functions, methods = set(), set()
    for source in sources:
        impls = source.impls()
        for index in range(len(source.code)):
            if source.text(index) != "unsafe" or source.text(index + 1) != "fn":
                continue
            name = source.text(index + 2)
            owners = [owner for start, end, owner in impls if start < index < end]
            if not owners:
                functions.add(name)
                continue
            functions.update([(owners[-1], name), ("Self", name)])
            at = index + 3
            while source.text(at) != "(":
                at += 1
            if "self" in [source.text(argument) for argument in range(at, at + 4)]:
                methods.add(name)
    return functions, methods


def is_unsafe_call(source, index, functions, methods):
    """Returns whether a token is the name of an unsafe function or macro that is called."""
    name, at = source.text(index), index + 1
    if not source.is_word(index):
        return False
    if source.text(at) == "!":
        return name in UNSAFE_MACROS
    if source.text(at) == "::" and source.text(at + 1) == "<":
        depth = 0
        for at in range(at + 1, len(source.code)):
            depth += {"<": 1, ">": -1}.get(source.text(at), 0)
            if depth == 0:
                break
        at += 1
    if source.text(at) != "(":
        return False
    before = source.text(index - 1)
    if before == ".":
        return name in UNSAFE_METHODS | methods
    owner = source.text(index - 2) if before == "::" else ""
    known = UNSAFE_FUNCTIONS | functions
    return owner.endswith("bindings") or name in known or (owner, name) in known


def is_dereference(source, index):
    if source.text(index) != "*" or source.text(index + 1) in ("const", "mut"):
        return False
    before = index - 1
    if source.is_word(before):
        return source.text(before) in ("mut", "return", "in", "if", "match", "else", "const")
    return source.code[before].kind == "mark" and source.text(before) not in (")", "]", "}")


def operand(source, index):
    """Returns the tokens of what a dereference applies to."""
    at = index + 1
    while at < len(source.code):
        if at in source.closes and source.text(at) in ("(", "["):
            at = source.closes[at] + 1
        elif source.is_word(at) or source.text(at) in (".", "::", "*"):
            at += 1
        elif source.text(at) == "<" and source.text(at - 1) == "::":
            while source.text(at - 1) != ">" or source.text(at) == ">":
                at += 1
        else:
            break
    return range(index + 1, at)


def unsafe_operations(names):
    sources = rust_sources(names, "src/")
    functions, methods = unsafe_functions(sources)
    blocks = 0
    for source in sources:
        for index in range(len(source.code)):
            if source.text(index) != "unsafe" or source.text(index + 1) != "{":
                continue
            blocks += 1
            line, body = source.code[index].line, range(index + 2, source.closes[index + 1])
            inner = [at for at in body if at in source.closes and source.text(at) in ("(", "[")]
            grouped = {at for start in inner for at in range(start, source.closes[start])}
            ends = [at for at in body if source.text(at) == ";" and at not in grouped]
            statements = len(ends) + (not ends or ends[-1] != body[-1]) if body else 0
            calls = {at for at in body if is_unsafe_call(source, at, functions, methods)}
            dereferences = [at for at in body if is_dereference(source, at)]
            nested = any(calls.intersection(operand(source, at)) for at in dereferences)
            if statements > 1:
                yield Finding(source.name, line, f"unsafe block of {statements} statements")
            elif len(calls) > 1 or len(dereferences) > 1 or nested:
                what = [f"{source.text(at)}()" for at in sorted(calls)] + ["dereference"] * len(dereferences)
                yield Finding(source.name, line, f"unsafe block of several operations: {', '.join(what)}")
    if blocks == 0:
        yield Finding("src", 0, "there is no unsafe block")


# Invariants


def doc_blocks(source):
    """Returns the doc comments of a file, each as the lines of its text with the first line's number, whether
    it is for what is around it, and the number of tokens of code before it."""
    blocks, code, last = [], 0, None
    for token in source.tokens:
        match = re.match(r"//(/(?!/)|!)", token.text) if token.kind == "comment" else None
        if match is None:
            code += token.kind != "comment"
            continue
        key = (match[1], code, token.line)
        if last != (match[1], code, token.line - 1):
            blocks.append(([], token.line, match[1] == "!", code))
        blocks[-1][0].append(token.text[3:].strip())
        last = key
    return blocks


def documented_type(source, index):
    """Returns the name of the type that is declared at a token, after attributes, or nothing."""
    while source.text(index) == "#":
        index = source.closes[index + 1] + 1
    if source.text(index) == "pub":
        index = source.after_visibility(index)
    return source.text(index + 1) if source.text(index) in ("struct", "enum", "union", "type") else None


def statement(source, index):
    """Returns the words of the statement that begins at a token."""
    words = []
    while index < len(source.code) and source.text(index) not in CLOSE | {";"}:
        end = source.closes.get(index, index)
        words += [source.text(at) for at in range(index, end + 1) if source.is_word(at)]
        index = end + 1
    return words


def invariants(names):
    sections = 0
    for source in rust_sources(names, "src/", "tools/"):
        wanted, of_module = {}, None
        for lines, line, is_inner, code in doc_blocks(source):
            if "# Invariants" not in lines:
                continue
            sections += 1
            line += lines.index("# Invariants")
            name = None if is_inner else documented_type(source, code)
            if is_inner:
                of_module = line
            elif name:
                wanted[name] = line
        met, code, comments = set(), 0, 0
        impls = source.impls()
        for token in source.tokens:
            if token.kind != "comment":
                code += 1
            elif re.match(r"//\s*INVARIANT:\s*\S", token.text):
                comments += 1
                named = wanted.keys() & set(statement(source, code))
                met |= named or {owner for start, end, owner in impls if start < code <= end}
        for name in sorted(wanted.keys() - met, key=wanted.get):
            yield Finding(source.name, wanted[name], f"no `// INVARIANT:` where a value of {name} is made")
        if of_module and not comments:
            yield Finding(source.name, of_module, "no `// INVARIANT:` in this module")
    if sections == 0:
        yield Finding("src", 0, "there is no section `# Invariants`")


# Lines and words


def file_length(names):
    for name in names:
        if name.startswith("src/"):
            lines = len(Path(name).read_bytes().splitlines())
            if lines > LINES_MAX:
                yield Finding(name, lines, f"{lines} lines, more than {LINES_MAX}")


def doc_words(names):
    for source in rust_sources(names, "src/", "tools/", "tests/"):
        for lines, first, _, _ in doc_blocks(source):
            at, text = next(((at, text) for at, text in enumerate(lines) if text), (0, ""))
            match = DOC_WORD.match(text)
            if match:
                yield Finding(source.name, first + at, f"the doc comment begins with `{match[1]}`: {text}")


def guillemets(names):
    for name in names:
        path = Path(name)
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
            if "\u00ab" in line or "\u00bb" in line:
                yield Finding(name, number, f"a quotation mark that is not English: {line.strip()}")


CHECKS = {
    "import-circles": import_circles,
    "unsafe-operations": unsafe_operations,
    "invariants": invariants,
    "file-length": file_length,
    "doc-words": doc_words,
    "guillemets": guillemets,
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"usage: git ls-files | {sys.argv[0]} {'|'.join(CHECKS)}")
    names = sys.stdin.read().split("\n")
    names = sorted({name for name in names if Path(name).is_file()})
    if not names:
        sys.exit("there are no files in the input")
    findings = list(CHECKS[sys.argv[1]](names))
    for finding in findings:
        print(f"{finding.file}:{finding.line}: {finding.message}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
