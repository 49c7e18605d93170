// Parses the Mermaid diagrams in the Markdown files that the arguments name, and reports each mistake at its line.
import { readFileSync } from 'node:fs';
import { JSDOM } from 'jsdom';

// Mermaid cleans labels with a library that needs a document.
const { window } = new JSDOM('');
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');

async function problem(diagram) {
  try {
    await mermaid.parse(diagram);
    return '';
  } catch (error) {
    return error.message;
  }
}

if (!await problem('flowchart LR\n  a --> --> b')) {
  console.log('the parser accepts a diagram that is wrong');
  process.exit(1);
}
let problems = 0;
for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, 'utf8');
  for (const match of text.matchAll(/^```mermaid\n([^]*?)^```/gm)) {
    const line = text.slice(0, match.index).split('\n').length;
    const message = await problem(match[1]);
    if (message) {
      console.log(`${file}:${line}: ${message}`);
      problems++;
    }
  }
}
process.exit(problems ? 1 : 0);
