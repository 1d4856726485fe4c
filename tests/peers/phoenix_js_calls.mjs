// Drives the npm package "phoenix", the official client: one command a line on stdin, one report a line on stdout.
// Every report has "what"; frames are reported as they were sent and got, in the fields of that client.
import {createRequire} from "node:module"
import {createInterface} from "node:readline"

const require = createRequire(process.env.PEER_MODULES + "/")
const {Socket} = require("phoenix")
const WebSocket = require("ws")

const report = (what, fields = {}) => process.stdout.write(JSON.stringify({what, ...fields}) + "\n")

const PATIENCE = 30_000

const LIFE = ["phx_close", "phx_error"]

// Version 1 is the shape of the client's first releases, which today's takes as functions of one's own. Those knew
// the end of an earlier join by the ref of the frame, as version 1 has no join_ref.
const first = {
  encode: (message, callback) => callback(JSON.stringify(message)),
  decode: (raw, callback) => {
    const message = JSON.parse(raw)
    callback(LIFE.includes(message.event) ? {...message, join_ref: message.ref} : message)
  },
}

let socket = null
const channels = new Map()

const commands = {
  open({url, params, vsn, heartbeat}) {
    const options = {transport: WebSocket, params, vsn, heartbeatIntervalMs: heartbeat}
    if (vsn.startsWith("1.")) Object.assign(options, first)
    socket = new Socket(url, options)
    const {encode, decode} = socket
    socket.encode = (message, callback) => {
      const {join_ref, ref, topic, event} = message
      report("sent", {join_ref, ref, topic, event})
      // It takes the same interval for both, and asks for it when it begins to wait: short ones between heartbeats,
      // long ones for their answers.
      if (event === "heartbeat") socket.heartbeatIntervalMs = PATIENCE
      encode.call(socket, message, callback)
    }
    socket.decode = (raw, callback) => decode.call(socket, raw, message => {
      report("got", {...message, shape: raw[0]})
      if (message.topic === "phoenix") socket.heartbeatIntervalMs = heartbeat
      callback(message)
    })
    socket.onOpen(() => report("open"))
    socket.onClose(event => report("closed", {code: event.code}))
    socket.onError(() => report("failed"))
    socket.connect()
  },
  channel({as, topic}) {
    const channel = socket.channel(topic, {})
    channels.set(as, channel)
    for (const event of ["INSERT", "UPDATE", "DELETE"]) {
      channel.on(event, payload => report("event", {as, event, payload}))
    }
    channel.onClose(() => report("channel closed", {as}))
    channel.onError(() => report("channel failed", {as}))
  },
  join({as}) {
    answered(channels.get(as).join(), "join", as)
  },
  push({as, event, payload}) {
    answered(channels.get(as).push(event, payload), "push", as)
  },
  leave({as}) {
    answered(channels.get(as).leave(), "leave", as)
  },
  look({as}) {
    report("look", {as, socket: socket.connectionState(), channel: channels.get(as).state})
  },
  disconnect() {
    socket.disconnect(() => report("disconnected"))
  },
}

function answered(push, what, as) {
  push
    .receive("ok", response => report(what, {as, status: "ok", response}))
    .receive("error", response => report(what, {as, status: "error", response}))
    .receive("timeout", () => report(what, {as, status: "timeout"}))
}

createInterface({input: process.stdin})
  .on("line", line => {
    const command = JSON.parse(line)
    commands[command.do](command)
  })
  .on("close", () => process.exit(0))
