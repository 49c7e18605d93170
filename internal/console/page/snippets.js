// The same call for other tools.

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`
const host = (target) => target.replace(/^[a-z]+:\/\/[^/]*\//, '')
const seconds = (deadline) => {
  let all = 0
  for (const [, n, unit] of deadline.matchAll(/([\d.]+)(ms|h|m|s)/g)) all += n * { ms: 0.001, s: 1, m: 60, h: 3600 }[unit]
  return all
}

// snippets returns title, note and text by name. message is JSON.
export function snippets({ service, method, message, metadata, deadline }) {
  const name = `${service.name}/${method.name}`
  const address = host(service.target)
  const one = JSON.stringify(JSON.parse(message))
  const streams = method.mode !== 'unary'
  return {
    grpcurl: {
      note: method.mode === 'client_stream' || method.mode === 'bidi_stream'
        ? 'grpcurl takes several messages one after another, and sends them without waiting for replies.' : 'Servers answer grpcurl by reflection.',
      text: ['grpcurl -plaintext', ...metadata.map(([k, v]) => `-H ${quote(`${k}: ${v}`)}`), deadline && `-max-time ${seconds(deadline)}`,
        `-d ${quote(one)}`, address, name].filter(Boolean).join(' \\\n  '),
    },
    curl: {
      note: streams
        ? 'curl cannot speak a stream of messages. This asks for the first ones in the framing of Connect, as a starting point.'
        : 'JSON over HTTP by the Connect protocol. It needs the web port of the server, at the address where yours has it.',
      text: ['curl', "-H 'Content-Type: application/json'", "-H 'Connect-Protocol-Version: 1'",
        ...metadata.map(([k, v]) => `-H ${quote(`${k}: ${v}`)}`), deadline && `-H 'Connect-Timeout-Ms: ${Math.round(seconds(deadline) * 1000)}'`,
        `-d ${quote(one)}`, `http://${address.replace(/:\d+$/, ':8080')}/${name}`].filter(Boolean).join(' \\\n  '),
    },
    Go: { note: 'protojson works with every API of generated messages.', text: go(service, method, one, metadata, deadline) },
  }
}

function go(service, method, message, metadata, deadline) {
  const path = (service.go_package || 'example.com/gen').split(';')[0]
  const parts = path.split('/')
  const name = (service.go_package || '').split(';')[1] || (/^v\d/.test(parts.at(-1)) ? parts.at(-2) + parts.at(-1) : parts.at(-1)).replace(/\W/g, '')
  const type = (full) => `${name}.${full.startsWith(service.name.replace(/[^.]*$/, '')) ? full.slice(service.name.replace(/[^.]*$/, '').length).replaceAll('.', '_') : full.split('.').at(-1)}`
  const short = service.name.split('.').at(-1)
  const lines = ['ctx := context.Background()']
  if (deadline) lines.push(`ctx, cancel := context.WithTimeout(ctx, ${Math.round(seconds(deadline) * 1000)}*time.Millisecond)`, 'defer cancel()')
  for (const [k, v] of metadata) lines.push(`ctx = metadata.AppendToOutgoingContext(ctx, ${JSON.stringify(k)}, ${JSON.stringify(v)})`)
  lines.push(`client := ${name}.New${short}Client(conn)`, `request := &${type(method.input)}{}`,
    `if err := protojson.Unmarshal([]byte(${message.includes('`') ? JSON.stringify(message) : '`' + message + '`'}), request); err != nil {`, '\treturn err', '}')
  const check = ['if err != nil {', '\treturn err', '}']
  const receive = ['for {', '\treply, err := stream.Recv()', '\tif errors.Is(err, io.EOF) {', '\t\treturn nil', '\t}',
    '\tif err != nil {', '\t\treturn err', '\t}', '\tfmt.Println(reply)', '}']
  switch (method.mode) {
    case 'unary':
      lines.push(`reply, err := client.${method.name}(ctx, request)`, ...check, 'fmt.Println(reply)')
      break
    case 'server_stream':
      lines.push(`stream, err := client.${method.name}(ctx, request)`, ...check, ...receive)
      break
    case 'client_stream':
      lines.push(`stream, err := client.${method.name}(ctx)`, ...check, 'if err := stream.Send(request); err != nil {', '\treturn err // CloseAndRecv says why',
        '}', 'reply, err := stream.CloseAndRecv()', ...check, 'fmt.Println(reply)')
      break
    default:
      lines.push(`stream, err := client.${method.name}(ctx)`, ...check, 'if err := stream.Send(request); err != nil {', '\treturn err // Recv says why', '}',
        'if err := stream.CloseSend(); err != nil {', '\treturn err', '}', ...receive)
  }
  return [`// import ${name} "${path}"`, ...lines].join('\n')
}
