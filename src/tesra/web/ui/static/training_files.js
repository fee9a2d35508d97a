// What of a folder is sent, and how: paths without what is rebuilt or ignored, joined into one tar.
"use strict";
const TesraFiles = (() => {
  const OUT = new Set([".git", "__pycache__", ".venv", "venv", "node_modules", ".ipynb_checkpoints", "__MACOSX", ".DS_Store"]);
  const IGNORE_FILES = [".gitignore", ".tesraignore"];
  const BLOCK = 512;
  const encoder = new TextEncoder();

  // --- .gitignore ------------------------------------------------------------------------------
  const escaped = (text) => text.replace(/[.+^${}()|\\]/g, "\\$&");

  function patternOf(glob) {
    let said = "";
    for (let at = 0; at < glob.length; at += 1) {
      const rest = glob.slice(at);
      if (rest.startsWith("**/")) { said += "(?:.*/)?"; at += 2; }
      else if (rest.startsWith("**")) { said += ".*"; at += 1; }
      else if (rest[0] === "*") said += "[^/]*";
      else if (rest[0] === "?") said += "[^/]";
      else if (rest[0] === "[" && rest.indexOf("]", 2) > 0) {
        const end = rest.indexOf("]", 2);
        said += `[${rest.slice(1, end).replace(/^!/, "^").replace(/\\/g, "\\\\")}]`;
        at += end;
      } else if (rest[0] === "\\" && rest[1]) { said += escaped(rest[1]); at += 1; }
      else said += escaped(rest[0]);
    }
    return said;
  }

  /** The rules of a .gitignore, in its order. */
  function rulesOf(text) {
    const rules = [];
    for (let line of text.split(/\r?\n/)) {
      line = line.replace(/(?<!\\)\s+$/, "");
      if (!line || line.startsWith("#")) continue;
      const keeps = line.startsWith("!");
      if (keeps) line = line.slice(1);
      const folders = line.endsWith("/");
      const glob = line.replace(/\/+$/, "");
      const anchored = glob.includes("/");
      try {
        const pattern = new RegExp(`^${anchored ? "" : "(?:.*/)?"}${patternOf(glob.replace(/^\//, ""))}$`, "u");
        rules.push({ pattern, keeps, folders });
      } catch { /* a pattern that is none matches nothing */ }
    }
    return rules;
  }

  function ignored(rules, path, folder) {
    let out = false;
    for (const rule of rules) {
      if ((folder || !rule.folders) && rule.pattern.test(path)) out = !rule.keeps;
    }
    return out;
  }

  /** Why-not, for a path or one of the folders above it: the part that stays here, or null. */
  function leftOut(rules, path) {
    const parts = path.split("/");
    for (let depth = 1; depth <= parts.length; depth += 1) {
      const part = parts.slice(0, depth).join("/");
      const folder = depth < parts.length;
      if (OUT.has(parts[depth - 1]) || ignored(rules, part, folder)) return folder ? `${part}/` : part;
    }
    return null;
  }

  // --- gathering -------------------------------------------------------------------------------
  const entriesOf = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

  async function childrenOf(folder) {
    const reader = folder.createReader();
    const found = [];
    for (let some = await entriesOf(reader); some.length; some = await entriesOf(reader)) found.push(...some);
    return found;
  }

  async function rulesFrom(files) {
    const texts = await Promise.all(files.filter(Boolean).map((file) => file.text()));
    return texts.flatMap(rulesOf);
  }

  /** A dropped folder: what is left out is not even looked into. */
  async function fromFolder(root) {
    const top = await childrenOf(root);
    const ignoring = top.filter((entry) => entry.isFile && IGNORE_FILES.includes(entry.name));
    const rules = await rulesFrom(await Promise.all(ignoring.map(fileOf)));
    const files = [];
    const out = [];
    const walk = async (entries, above) => {
      for (const entry of entries) {
        const path = above + entry.name;
        if (OUT.has(entry.name) || ignored(rules, path, entry.isDirectory)) out.push(path + (entry.isDirectory ? "/" : ""));
        else if (entry.isDirectory) await walk(await childrenOf(entry), `${path}/`);
        else files.push({ path, file: await fileOf(entry) });
      }
    };
    await walk(top, "");
    return { name: root.name, files, out };
  }

  /** A folder from a file chooser: the browser has listed all of it. */
  async function fromList(list) {
    const all = [...list].map((file) => ({ path: file.webkitRelativePath.split("/").slice(1).join("/") || file.name, file }));
    const rules = await rulesFrom(IGNORE_FILES.map((name) => all.find((one) => one.path === name)?.file));
    const out = new Set();
    const files = all.filter(({ path }) => {
      const why = leftOut(rules, path);
      if (why) out.add(why);
      return !why;
    });
    return { name: list[0]?.webkitRelativePath.split("/")[0] ?? "", files, out: [...out] };
  }

  // --- tar ---------------------------------------------------------------------------------------
  function header(name, size, mtime, kind) {
    const block = new Uint8Array(BLOCK);
    const put = (text, at, length) => block.set(encoder.encode(text).subarray(0, length), at);
    const octal = (value, length) => Math.trunc(value).toString(8).padStart(length - 1, "0");
    block.set(name.subarray(0, 100), 0);
    put(octal(0o644, 8), 100, 8);
    put(octal(0, 8), 108, 8);
    put(octal(0, 8), 116, 8);
    if (size < 8 ** 11) put(octal(size, 12), 124, 12);
    else { // base 256, as GNU has it
      block[124] = 0x80;
      for (let at = 135, rest = size; at > 124 && rest > 0; at -= 1, rest = Math.floor(rest / 256)) block[at] = rest % 256;
    }
    put(octal(Math.max(0, mtime), 12), 136, 12);
    put("        ", 148, 8);
    put(kind, 156, 1);
    put("ustar\0" + "00", 257, 8);
    const sum = block.reduce((total, byte) => total + byte, 0);
    put(`${octal(sum, 7)}\0 `, 148, 8);
    return block;
  }

  const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

  /** One Blob of all files; the browser reads their content only as it is sent. */
  function tarOf(files) {
    const parts = [];
    for (const { path, file } of files) {
      const name = encoder.encode(path);
      if (name.length > 100) { // GNU: the whole name in an entry before
        const long = new Uint8Array(name.length + 1);
        long.set(name);
        parts.push(header(encoder.encode("././@LongLink"), long.length, 0, "L"), long, padding(long.length));
      }
      parts.push(header(name, file.size, file.lastModified / 1000, "0"), file, padding(file.size));
    }
    parts.push(new Uint8Array(2 * BLOCK));
    return new Blob(parts, { type: "application/x-tar" });
  }

  /** The same text for the same files: by it an upload is found again. */
  function fingerprint(name, files) {
    let low = 0xdeadbeef;
    let high = 0x41c6ce57;
    const text = JSON.stringify([name, files.map(({ path, file }) => [path, file.size, file.lastModified])]);
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      low = Math.imul(low ^ code, 2654435761);
      high = Math.imul(high ^ code, 1597334677);
    }
    return `tesra-project-${(low >>> 0).toString(16)}${(high >>> 0).toString(16)}-${text.length}`;
  }

  return { fromFolder, fromList, tarOf, fingerprint, rulesOf, leftOut };
})();
