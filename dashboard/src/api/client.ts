/** The typed client: paths, parameters and answers come from docs/openapi.json (`npm run api`). */
import createClient from 'openapi-fetch'
import { ApiError, asApiError, fromAnswer } from './error'
import type { components, paths } from './schema'
import { recordServerDate } from './serverClock'
import { serverUrl } from './serverUrl'
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

/** A request is aborted after this time; the caller may repeat it. */
const TIMEOUT_MS = 20_000

function fetchWithTimeout(request: Request): Promise<Response> {
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT_MS)])
  return authorized(new Request(request, { signal }))
}

const clients = new Map<string, ReturnType<typeof createClient<paths>>>()

/** The client of the server that the session belongs to. */
export function api(): ReturnType<typeof createClient<paths>> {
  const base = serverUrl(session.base())
  let client = clients.get(base)
  if (client === undefined) {
    client = createClient<paths>({ baseUrl: base, fetch: fetchWithTimeout })
    clients.set(base, client)
  }
  return client
}

interface Answer<T> {
  data?: T
  error?: unknown
  response: Response
}

/** The body of a successful answer; throws an [`ApiError`] otherwise. */
export async function unwrap<T>(work: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>
  try {
    answer = await work
  } catch (thrown) {
    // A cancelled query is not an error.
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    // The connection was lost while the body was read.
    if (thrown instanceof TypeError) throw new ApiError('unreachable', 'the connection was lost before the answer was complete; check that the server is running, then try again')
    throw asApiError(thrown)
  }
  if (!answer.response.ok) throw fromAnswer(answer.response, answer.error)
  recordServerDate(answer.response)
  if (answer.data === undefined && answer.response.status !== 204)
    throw new ApiError('malformed_answer', 'the answer is empty; check that the address is that of a Hexa server', answer.response.status)
  return answer.data as T
}

/** Gives back an answer that has what pages rely on; throws an [`ApiError`] otherwise. */
export function validate<T>(value: T, isValid: (value: T) => boolean): T {
  let valid = false
  try {
    valid = isValid(value)
  } catch {
    // A check that fails on a missing member: not valid.
  }
  if (!valid) throw new ApiError('malformed_answer', 'the answer has an unexpected form; check that the address is that of a Hexa server, and reload the page')
  return value
}

/** [`unwrap`] for a list, whose items must be objects. */
export async function unwrapList<P extends { items: readonly unknown[] }>(work: Promise<Answer<P>>): Promise<P> {
  return validate(await unwrap(work), (page) => page.items.every((item) => typeof item === 'object' && item !== null))
}

/** An answer that is not JSON, such as `/metrics` or an export; the time limit ends when its headers arrive. */
export async function fetchText(path: string, signal?: AbortSignal): Promise<Response> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new DOMException('', 'TimeoutError')), TIMEOUT_MS)
  const init: RequestInit = { signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]) }
  try {
    const response = await authorized(new Request(`${serverUrl(session.base())}${path}`, init))
    if (response.ok) return response
    throw fromAnswer(response, await response.json().catch(() => null))
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    throw asApiError(thrown)
  } finally {
    clearTimeout(timer)
  }
}
