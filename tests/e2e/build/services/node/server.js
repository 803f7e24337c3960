"use strict";
const http = require("http");
const { version } = require("./version.json");

const server = http.createServer((request, response) => {
  response.end(`node ${version} as ${process.getuid()}\n`);
});
server.listen(8000);
process.on("SIGTERM", () => process.exit(0));
