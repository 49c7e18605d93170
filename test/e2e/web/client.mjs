// Clients of the web port as pages have them, and of the gRPC port as Node has them, for any service: messages are JSON, and
// the contract is a FileDescriptorSet in the file that DESCRIPTORS names.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const bytes = readFileSync(process.env.DESCRIPTORS);
export const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));

export function serviceNamed(name) {
  const service = registry.getService(name);
  if (!service) throw new Error(`no service ${name}`);
  return service;
}

const transports = {
  "connect": (baseUrl) => createConnectTransport({ baseUrl, useBinaryFormat: true }),
  "connect-json": (baseUrl) => createConnectTransport({ baseUrl, useBinaryFormat: false }),
  "grpc-web": (baseUrl) => createGrpcWebTransport({ baseUrl, useBinaryFormat: true }),
  "grpc-web-json": (baseUrl) => createGrpcWebTransport({ baseUrl, useBinaryFormat: false }),
};

// connectClient is a client of @connectrpc/connect-web.
export function connectClient(protocol, baseUrl, service) {
  return createClient(service, transports[protocol](baseUrl));
}

// A failure is an error as the tests compare it: its code as gRPC spells it, and the reason in its details.
export class Failure extends Error {
  constructor(code, message, reason) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

const constant = (name) => name.replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();

export function failureOf(error) {
  const connectError = ConnectError.from(error);
  const info = connectError.details.find((d) => d.type === "google.rpc.ErrorInfo");
  // The detail of gRPC-Web has no form for people; its first field is the reason.
  const reason = info?.debug?.reason ?? (info && new TextDecoder().decode(info.value.subarray(2, 2 + info.value[1])));
  return new Failure(constant(Code[connectError.code]), connectError.rawMessage, reason);
}

// callConnect yields the answers of a unary call or a server stream.
export async function* callConnect(protocol, baseUrl, name, method, request, options) {
  const service = serviceNamed(name);
  const descriptor = service.methods.find((m) => m.name === method);
  const client = connectClient(protocol, baseUrl, service);
  const message = fromJson(descriptor.input, request, { registry });
  try {
    const answer = client[descriptor.localName](message, options);
    if (descriptor.methodKind === "unary") {
      yield toJson(descriptor.output, await answer, { registry });
      return;
    }
    for await (const reply of answer) yield toJson(descriptor.output, reply, { registry });
  } catch (error) {
    throw failureOf(error);
  }
}

// callNode yields the answers of a call of any mode by @grpc/grpc-js. requests are sent one after another.
export async function* callNode(target, name, method, requests) {
  const definition = loader.loadFileDescriptorSetFromBuffer(bytes, { keepCase: false, longs: String, enums: String, oneofs: true });
  const Client = name.split(".").reduce((scope, part) => scope[part], grpc.loadPackageDefinition(definition));
  const client = new Client(target, grpc.credentials.createInsecure());
  const { requestStream, responseStream, originalName } = Client.service[method];
  const fail = (error) => {
    const details = error.metadata?.get("grpc-status-details-bin")[0];
    const reason = details && /([A-Z][A-Z_]{3,})/.exec(details.toString("latin1"))?.[1];
    return new Failure(grpc.status[error.code], error.details, reason);
  };
  try {
    let call;
    const single = new Promise((resolve, reject) => {
      const done = (error, reply) => (error ? reject(error) : resolve(reply));
      const first = requestStream ? [] : [requests[0]];
      call = client[originalName](...first, ...(responseStream ? [] : [done]));
    });
    if (requestStream) {
      for (const request of requests) call.write(request);
      call.end();
    }
    if (!responseStream) {
      yield await single;
      return;
    }
    for await (const reply of call) yield reply;
  } catch (error) {
    throw fail(error);
  } finally {
    client.close();
  }
}
