// node object_upload.mjs <address> <file> <name> <bytes per second>: uploads a file to the page of files at the console as a
// page does, by tus-js-client. At a third it pauses and resumes as a person would, with what the address of the upload alone
// says. It prints {"breaks", "resumedAt"}. Each line on stderr is what happened.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Upload } = createRequire(new URL("./web/package.json", import.meta.url))("tus-js-client");
const [address, file, name, pace] = process.argv.slice(2);
const content = readFileSync(file);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const began = Date.now();
const chunkSize = 1 << 20;
let breaks = 0;

// run uploads until the end, or until a number of bytes was taken. It returns where the upload is.
const run = (uploadUrl, until) => new Promise((resolve, reject) => {
  let first = -1;
  const upload = new Upload(content, {
    endpoint: `http://${address}/panels/object/api/uploads/`,
    uploadUrl,
    chunkSize,
    metadata: { filename: name, filetype: "application/x-uploaded" },
    retryDelays: Array(60).fill(1000),
    // The answer to what is asked first says where the upload goes on.
    onAfterResponse: (request, response) => {
      if (request.getMethod() === "HEAD" && first < 0) first = Number(response.getHeader("Upload-Offset"));
      if (response.getStatus() >= 400) console.error(`${request.getMethod()} ${response.getStatus()} ${response.getBody()}`);
    },
    onShouldRetry: (error) => {
      breaks++;
      console.error(`break: ${error.message}`);
      return true;
    },
    onChunkComplete: (_, taken) => {
      if (taken < until) return;
      upload.abort().then(() => resolve({ url: upload.url, first }), reject);
    },
    onBeforeRequest: async (request) => {
      if (request.getMethod() !== "PATCH") return;
      const ahead = (Number(request.getHeader("Upload-Offset")) / Number(pace)) * 1000 - (Date.now() - began);
      if (ahead > 0) await pause(ahead);
    },
    onSuccess: () => resolve({ url: upload.url, first }),
    onError: reject,
  });
  upload.start();
});

console.error("began");
const { url } = await run(undefined, content.length / 3);
console.error("paused");
const { first } = await run(url, Infinity);
console.log(JSON.stringify({ breaks, resumedAt: first }));
