// Runs cases one after the other, and counts.

/** A case is `{ name, run }`; `run` throws, or returns what is to be printed beside the name. */
export async function runCases(cases, filter = '') {
  const chosen = cases.filter(({ name }) => name.includes(filter));
  let failed = 0;
  for (const { name, run } of chosen) {
    try {
      const note = await run();
      console.log(`ok: ${name}${note === undefined ? '' : `: ${note}`}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED: ${name}\n${error.stack}`);
    }
  }
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  if (failed > 0 || chosen.length === 0) process.exitCode = 1;
}
