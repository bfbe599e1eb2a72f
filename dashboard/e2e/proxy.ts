/** A proxy that serves everything under a path, and removes the path before it forwards a request. */
import { createServer, type IncomingMessage, request, type Server as HttpServer, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'

export const PATH_PREFIX = '/hexa'

export class Proxy {
  url = ''
  /** Whether it forwards WebSockets. */
  upgrades = true
  readonly #server: HttpServer
  readonly #open = new Set<Socket>()

  private constructor(readonly target: URL) {
    this.#server = createServer((incoming, answer) => this.#forward(incoming, answer))
    this.#server.on('connection', (socket) => {
      this.#open.add(socket)
      socket.on('close', () => this.#open.delete(socket))
    })
    this.#server.on('upgrade', (incoming, socket: Socket) => this.#upgrade(incoming, socket))
  }

  static async before(target: string): Promise<Proxy> {
    const proxy = new Proxy(new URL(target))
    await new Promise<void>((listening) => proxy.#server.listen(0, '127.0.0.1', listening))
    const address = proxy.#server.address()
    if (typeof address === 'object' && address !== null) proxy.url = `http://127.0.0.1:${address.port}${PATH_PREFIX}`
    return proxy
  }

  #forward(incoming: IncomingMessage, answer: ServerResponse): void {
    if (incoming.url?.startsWith(`${PATH_PREFIX}/`) !== true) {
      answer.writeHead(404).end()
      return
    }
    const path = incoming.url.slice(PATH_PREFIX.length)
    const onwards = request({ host: this.target.hostname, port: this.target.port, method: incoming.method, path, headers: incoming.headers }, (came) => {
      if (came.headers['content-type']?.startsWith('text/html') !== true) {
        answer.writeHead(came.statusCode ?? 502, came.headers)
        came.pipe(answer)
        return
      }
      // The server would write the path of PUBLIC_URL into its page; this test's server has none.
      const parts: Buffer[] = []
      came.on('data', (part: Buffer) => parts.push(part))
      came.on('end', () => {
        const page = Buffer.concat(parts).toString().replaceAll('="/dashboard/', `="${PATH_PREFIX}/dashboard/`)
        const headers = { ...came.headers, 'content-length': String(Buffer.byteLength(page)) }
        answer.writeHead(came.statusCode ?? 502, headers).end(page)
      })
    })
    onwards.on('error', () => answer.destroy())
    incoming.pipe(onwards)
  }

  #upgrade(incoming: IncomingMessage, socket: Socket): void {
    if (!this.upgrades || incoming.url?.startsWith(`${PATH_PREFIX}/`) !== true) {
      socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
      return
    }
    const there = connect(Number(this.target.port), this.target.hostname, () => {
      const lines = [`GET ${incoming.url?.slice(PATH_PREFIX.length) ?? ''} HTTP/1.1`]
      for (let n = 0; n < incoming.rawHeaders.length; n += 2) lines.push(`${incoming.rawHeaders[n] ?? ''}: ${incoming.rawHeaders[n + 1] ?? ''}`)
      there.write(`${lines.join('\r\n')}\r\n\r\n`)
      there.pipe(socket)
      socket.pipe(there)
    })
    there.on('error', () => socket.destroy())
    socket.on('error', () => there.destroy())
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server.close(done))
    for (const socket of this.#open) socket.destroy()
    await closed
  }
}
