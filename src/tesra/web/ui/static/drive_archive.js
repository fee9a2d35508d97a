// Many small files as one: a tar whose parts are the files themselves, read only as they are sent.
"use strict";
const DriveArchive = (() => {
  const BLOCK = 512;
  const bytes = new TextEncoder();

  function write(header, at, size, text) {
    header.set(bytes.encode(text).subarray(0, size), at);
  }

  const octal = (value, digits) => value.toString(8).padStart(digits, "0");

  function header(name, size, type) {
    const block = new Uint8Array(BLOCK);
    write(block, 0, 100, name);
    write(block, 100, 8, "0000644\0");
    write(block, 108, 8, "0000000\0");
    write(block, 116, 8, "0000000\0");
    write(block, 124, 12, `${octal(size, 11)}\0`);
    write(block, 136, 12, "00000000000\0");
    write(block, 148, 8, "        ");
    write(block, 156, 1, type);
    write(block, 257, 8, "ustar\u000000");
    const sum = block.reduce((total, value) => total + value, 0);
    write(block, 148, 8, `${octal(sum, 6)}\0 `);
    return block;
  }

  const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

  /** A pax record: its own length in front, in decimal, counted along. */
  function record(key, value) {
    const rest = bytes.encode(` ${key}=${value}\n`).length;
    let length = rest + 1;
    while (String(length).length + rest !== length) length = String(length).length + rest;
    return `${length} ${key}=${value}\n`;
  }

  /** `files`: [{name, file}], names relative to where the archive is unpacked. */
  function tar(files) {
    const parts = [];
    for (const { name, file } of files) {
      const pax = bytes.encode(record("path", name));
      parts.push(header("name", pax.length, "x"), pax, padding(pax.length));
      parts.push(header("file", file.size, "0"), file, padding(file.size));
    }
    parts.push(new Uint8Array(2 * BLOCK));
    return new Blob(parts);
  }

  return { tar };
})();
