import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { claim, ended, nextLine, say, start, truncateElsewhere } from './story.mjs';

export async function before() {
  const directory = mkdtempSync(join(tmpdir(), 'revocable-demo-'));
  const path = join(directory, 'data.bin');
  try {
    writeFileSync(path, Buffer.alloc(65536, 7));
    const victim = start('before-victim.mjs', [path], { stdio: ['pipe', 'pipe', 'pipe'] });
    const end = ended(victim);
    say.line(`a process maps the file with koffi and reads it: ${await nextLine(victim)}`);
    await truncateElsewhere(path);
    say.line('another process truncates the file; the first one reads again…');
    victim.stdin.end('go\n');
    const { status, signal } = await end;
    const code = signal === 'SIGBUS' ? 135 : status;
    say.line(`…and is dead: ${signal ?? 'no signal'}, exit status ${code} in a shell. No exception, no event, no log line.`);
    claim('without the library the process dies of SIGBUS (135)', signal === 'SIGBUS');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
