/** A proxy that serves everything below a path, and takes the path away before the server sees it. */
import { createServer, type IncomingMessage, request, type Server as HttpServer, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'

export const BELOW = '/hexa'

export class Proxy {
  url = ''
  /** Whether it lets WebSockets pass. */
  upgrades = true
  readonly #server: HttpServer
  readonly #open = new Set<Socket>()

  private constructor(readonly target: URL) {
    this.#server = createServer((asked, answer) => this.#pass(asked, answer))
    this.#server.on('connection', (socket) => {
      this.#open.add(socket)
      socket.on('close', () => this.#open.delete(socket))
    })
    this.#server.on('upgrade', (asked, socket: Socket) => this.#upgrade(asked, socket))
  }

  static async before(target: string): Promise<Proxy> {
    const proxy = new Proxy(new URL(target))
    await new Promise<void>((listening) => proxy.#server.listen(0, '127.0.0.1', listening))
    const address = proxy.#server.address()
    if (typeof address === 'object' && address !== null) proxy.url = `http://127.0.0.1:${address.port}${BELOW}`
    return proxy
  }

  #pass(asked: IncomingMessage, answer: ServerResponse): void {
    if (asked.url?.startsWith(`${BELOW}/`) !== true) {
      answer.writeHead(404).end()
      return
    }
    const path = asked.url.slice(BELOW.length)
    const onwards = request({ host: this.target.hostname, port: this.target.port, method: asked.method, path, headers: asked.headers }, (came) => {
      if (came.headers['content-type']?.startsWith('text/html') !== true) {
        answer.writeHead(came.statusCode ?? 502, came.headers)
        came.pipe(answer)
        return
      }
      // The server writes the path of PUBLIC_URL into its page; for one that was not told, this stands in.
      const parts: Buffer[] = []
      came.on('data', (part: Buffer) => parts.push(part))
      came.on('end', () => {
        const page = Buffer.concat(parts).toString().replaceAll('="/dashboard/', `="${BELOW}/dashboard/`)
        const headers = { ...came.headers, 'content-length': String(Buffer.byteLength(page)) }
        answer.writeHead(came.statusCode ?? 502, headers).end(page)
      })
    })
    onwards.on('error', () => answer.destroy())
    asked.pipe(onwards)
  }

  #upgrade(asked: IncomingMessage, socket: Socket): void {
    if (!this.upgrades || asked.url?.startsWith(`${BELOW}/`) !== true) {
      socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
      return
    }
    const there = connect(Number(this.target.port), this.target.hostname, () => {
      const lines = [`GET ${asked.url?.slice(BELOW.length) ?? ''} HTTP/1.1`]
      for (let n = 0; n < asked.rawHeaders.length; n += 2) lines.push(`${asked.rawHeaders[n] ?? ''}: ${asked.rawHeaders[n + 1] ?? ''}`)
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
