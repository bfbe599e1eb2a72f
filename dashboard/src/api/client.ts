/** The typed client: paths, parameters and answers come from docs/openapi.json (`npm run api`). */
import createClient from 'openapi-fetch'
import { ApiError, asApiError, fromAnswer } from './error'
import type { components, paths } from './schema'
import { address } from './serverUrl'
import { authorized, session } from './session'

export type Schemas = components['schemas']
export type Device = Schemas['DeviceBody']
export type Account = Schemas['AccountBody']
export type Grant = Schemas['GrantBody']
export type Invitation = Schemas['InvitationBody']
export type AuditRow = Schemas['AuditBody']
export type HistoryRow = Schemas['HistoryBody']
export type Fleet = Schemas['FleetBody']
export type CommandDone = Schemas['CommandBody']

/** A slow answer is given up after this; the caller may ask again. */
const TIMEOUT_MS = 20_000

function timed(request: Request): Promise<Response> {
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT_MS)])
  return authorized(new Request(request, { signal }))
}

const made = new Map<string, ReturnType<typeof createClient<paths>>>()

/** The client of the server that the session is with. */
export function api(): ReturnType<typeof createClient<paths>> {
  const base = address(session.base())
  let client = made.get(base)
  if (client === undefined) {
    client = createClient<paths>({ baseUrl: base, fetch: timed })
    made.set(base, client)
  }
  return client
}

interface Answer<T> {
  data?: T
  error?: unknown
  response: Response
}

/** The body of a success; throws an [`ApiError`] otherwise. */
export async function ask<T>(work: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>
  try {
    answer = await work
  } catch (thrown) {
    // A query that nobody waits for any more is no error.
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    // The body broke off on its way: whatever reads answers throws the same as `fetch`.
    if (thrown instanceof TypeError) throw new ApiError('unreachable', 'the answer broke off; is the server running?')
    throw asApiError(thrown)
  }
  if (!answer.response.ok) throw fromAnswer(answer.response, answer.error)
  noteClock(answer.response)
  if (answer.data === undefined && answer.response.status !== 204)
    throw new ApiError('malformed_answer', 'the answer is empty; is this a Hexa server?', answer.response.status)
  return answer.data as T
}

/** What an answer must have for a page to be made of it; lists have `items` anyway. */
export function shaped<T>(value: T, sound: (value: T) => boolean): T {
  let good = false
  try {
    good = sound(value)
  } catch {
    // Not even that much.
  }
  if (!good) throw new ApiError('malformed_answer', 'the answer is not what was asked for; is this a Hexa server, and of this version?')
  return value
}

/** [`ask`] for a list. */
export async function askList<P extends { items: readonly unknown[] }>(work: Promise<Answer<P>>): Promise<P> {
  return shaped(await ask(work), (page) => page.items.every((item) => typeof item === 'object' && item !== null))
}

/** A text that is no JSON: `/metrics`, exports. The time that it may take is that until it begins. */
export async function askText(path: string, signal?: AbortSignal): Promise<Response> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new DOMException('', 'TimeoutError')), TIMEOUT_MS)
  const init: RequestInit = { signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]) }
  try {
    const response = await authorized(new Request(`${address(session.base())}${path}`, init))
    if (response.ok) return response
    throw fromAnswer(response, await response.json().catch(() => null))
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    throw asApiError(thrown)
  } finally {
    clearTimeout(timer)
  }
}

let skewMs = 0
const skewListeners = new Set<() => void>()

function noteClock(response: Response): void {
  const date = Date.parse(response.headers.get('date') ?? '')
  if (!Number.isFinite(date)) return
  const off = date - Date.now()
  // The header has whole seconds, and answers take their time: small differences are none, and small changes nothing new.
  const next = Math.abs(off) > 5_000 ? off : 0
  if (Math.abs(next - skewMs) < 2_000) return
  skewMs = next
  for (const listener of skewListeners) listener()
}

/** The server's time: this machine's clock may be an hour off. */
export const serverNow = (): number => Date.now() + skewMs

/** How far it is ahead of this machine's, in ms; 0 where that is nothing. */
export const clock = {
  skewMs: (): number => skewMs,
  subscribe: (listener: () => void): (() => void) => {
    skewListeners.add(listener)
    return () => skewListeners.delete(listener)
  },
}
