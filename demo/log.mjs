import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MemoryObject } from 'revocable-mmap';
import { claim, ended, nextLine, say, start, startProgress, truncateElsewhere } from './story.mjs';

const LINE = 53;

/** Reads whole lines through the mapping, checked, and counts those that are what the writer wrote. */
function readLines(mapping, from, to, seen) {
  const line = Buffer.alloc(LINE);
  for (let at = from; at + LINE <= to; at += LINE) {
    mapping.read(at, line);
    const wanted = `${String(at / LINE + 1).padStart(8, '0')} the quick brown fox`;
    seen[line.toString('latin1', 0, wanted.length) === wanted ? 'right' : 'wrong']++;
  }
}

export async function log() {
  const directory = mkdtempSync(join(tmpdir(), 'revocable-demo-'));
  const path = join(directory, 'growing.log');
  writeFileSync(path, '');
  const writer = start('log-writer.mjs', [path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const writerEnd = ended(writer);
  await nextLine(writer);
  const bar = startProgress('  reading the log |{bar}| {value} lines', 40_000);
  const seen = { right: 0, wrong: 0 };
  try {
    const file = MemoryObject.openFile(path);
    const mapping = file.map({ length: 64 << 20 }); // longer than the file: it grows into the mapping
    let at = 0;
    let error;
    let truncation;
    while (error === undefined) {
      const size = Math.floor(statSync(path).size / LINE) * LINE;
      try {
        if (size > at) readLines(mapping, at, size, seen);
        at = Math.max(at, size);
        bar.update(Math.min(40_000, seen.right));
        if (seen.right >= 20_000 && truncation === undefined) truncation = truncateElsewhere(path);
        if (truncation !== undefined) readLines(mapping, 0, at, { right: 0, wrong: 0 }); // over and over, until it is gone
      } catch (caught) {
        error = caught;
      }
      await sleep(1);
    }
    bar.stop();
    say.line(`${seen.right} lines read through the mapping while the log grew, ${seen.wrong} wrong`);
    say.line(`another process truncates it, and the reader gets: ${error.name}: ${error.message.replace(directory, '…')}`);
    say.line(`(code ${error.code}, cause ${error.cause}, after ${error.bytesTransferred} bytes of that line)`);
    claim('every line read before the truncation was right', seen.right >= 20_000 && seen.wrong === 0);
    claim(
      'the truncation became an error that names the file',
      error.code === 'ERR_BACKING_FAULT' && error.message.includes(path),
    );

    // The reader goes on: the file has begun anew, and so does the reading.
    file.close();
    await sleep(50);
    writer.stdin.end();
    await writerEnd;
    const again = MemoryObject.openFile(path);
    const tail = Buffer.alloc(again.size);
    const bytes = again.map().read(0, tail);
    say.line(`the reader opens the log again and goes on: ${Math.floor(bytes / LINE)} new lines`);
    claim('the reader went on with the new contents', bytes > 0 && tail.toString('latin1').endsWith('lazy dog\n'));
    again.close();
  } finally {
    bar.stop();
    writer.stdin.end();
    rmSync(directory, { recursive: true, force: true });
  }
}
