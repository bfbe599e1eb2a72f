/**
 * Who is signed in, and the tokens (reliability.md section 3, "dashboard session survives reload").
 *
 * On the server that this page came from, the refresh token is in a cookie that no script can read, and the access
 * token in memory. On another server (`DASHBOARD_CONNECT_SRC`) the refresh token is in storage, which the sign-in page
 * warns of. Refreshes happen one at a time, over all requests of a tab (one promise) and over all tabs (a lock), and a
 * tab that waited takes the token of the one that asked.
 */
import { asApiError, ApiError, fromAnswer, unreachable } from './error'
import type { components } from './schema'
import { clear, PREFIX, read, readOfTab, remove, write, writeOfTab } from './storage'
import { alone } from './tabs'

export type User = components['schemas']['UserBody']
type SignedIn = components['schemas']['SignedInBody']

/** What is kept over reloads; a refresh token only where there is no cookie. */
interface Kept {
  base: string
  user: User
  refresh_token?: string
}

export type SessionState =
  | { status: 'starting' }
  | { status: 'out'; why: string | null }
  | { status: 'in'; user: User; base: string }

/** One session for each server: its tokens go there and nowhere else. */
const SESSIONS = `${PREFIX}session`
const sessionKey = (): string => (base === '' ? SESSIONS : `${SESSIONS}@${base}`)
/** Of this tab, and for new ones the last that was used. */
const BASE_KEY = `${PREFIX}base`
/** Somebody signed out while the server was not there: its cookie is to be ended before anything else. */
const LEFT_KEY = `${PREFIX}signed_out`
const TIMEOUT_MS = 20_000
/** An access token is renewed this long before its end. */
const EARLY_MS = 30_000

interface Token {
  value: string
  /** Of this page's monotonic clock: a wrong wall clock ends no session. */
  until: number
  got: number
}

let token: Token | null = null
let state: SessionState = { status: 'starting' }
let base = lastBase()
/** Raised whenever somebody leaves: what was under way for them counts no more. */
let generation = 0
let leaving: Promise<void> | null = null
let refreshing: Promise<void> | null = null
/** The last refresh, also one that nobody of this session waits for any more. */
let underway: Promise<unknown> = Promise.resolve()
const listeners = new Set<() => void>()
const peers = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('hexa.session')

type Told =
  | { kind: 'token'; base: string; value: string; left_ms: number; user: User }
  | { kind: 'out'; base: string; why: string | null }
  | { kind: 'ask'; base: string }

function lastBase(): string {
  const last: unknown = readOfTab(BASE_KEY) ?? read(BASE_KEY)
  return typeof last === 'string' ? last : ''
}

/** What an earlier version or somebody else left there may be anything. */
function kept(): Kept | null {
  const found = read<Partial<Kept>>(sessionKey())
  return typeof found?.base === 'string' && typeof found.user?.id === 'string' ? (found as Kept) : null
}

function set(next: SessionState): void {
  state = next
  for (const listener of listeners) listener()
}

export const session = {
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
  state: (): SessionState => state,
  /** Empty for the server that this page came from. */
  base: (): string => base,
}

/** Whether the browser keeps the session where no script reads it. */
const inCookie = (): boolean => base === ''

const headers = (): Record<string, string> => ({
  'content-type': 'application/json',
  ...(inCookie() ? { 'x-hexa-session': 'cookie' } : {}),
})

async function post(path: string, body: unknown): Promise<Response> {
  const init = { method: 'POST', headers: headers(), body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS) }
  return unreachable(fetch(`${base}/api/v1/auth/${path}`, { ...init, credentials: inCookie() ? 'same-origin' : 'omit' }))
}

async function json(response: Response): Promise<unknown> {
  try {
    return (await response.json()) as unknown
  } catch {
    return null
  }
}

async function answered(response: Response): Promise<SignedIn> {
  const body = await json(response)
  if (!response.ok) throw fromAnswer(response, body)
  const signedIn = body as SignedIn | null
  if (typeof signedIn?.access_token !== 'string' || typeof signedIn.user.id !== 'string') throw asApiError(new SyntaxError())
  return signedIn
}

function take(value: string, leftMs: number, user: User): void {
  const now = performance.now()
  token = { value, until: now + leftMs, got: now }
  const same = state.status === 'in' && JSON.stringify(state.user) === JSON.stringify(user) && state.base === base
  if (!same) set({ status: 'in', user, base })
}

function enter(signedIn: SignedIn): void {
  const next: Kept = { base, user: signedIn.user }
  if (!inCookie() && signedIn.refresh_token !== null) next.refresh_token = signedIn.refresh_token
  write(sessionKey(), next)
  remove(LEFT_KEY)
  take(signedIn.access_token, signedIn.expires_in * 1000, signedIn.user)
  tell()
}

function tell(): void {
  if (token === null || state.status !== 'in') return
  const left_ms = token.until - performance.now()
  peers?.postMessage({ kind: 'token', base, value: token.value, left_ms, user: state.user } satisfies Told)
}

/** Of the same user, and it ends before ours: it was on its way for longer. */
const isOlder = (leftMs: number, user: User): boolean =>
  token !== null && state.status === 'in' && state.user.id === user.id && performance.now() + leftMs < token.until

peers?.addEventListener('message', (event: MessageEvent<Told>) => {
  const told = event.data
  if (told.base !== base) return
  if (told.kind === 'token' && !isOlder(told.left_ms, told.user)) take(told.value, told.left_ms, told.user)
  if (told.kind === 'out' && state.status !== 'out') leave(told.why, false)
  if (told.kind === 'ask') tell()
})

function leave(why: string | null, announce: boolean): void {
  generation += 1
  refreshing = null
  token = null
  const own = sessionKey()
  // Sessions with other servers are other tabs' (DB-4: everything else goes).
  clear((key) => key === BASE_KEY || key === LEFT_KEY || (key.startsWith(SESSIONS) && key !== own))
  set({ status: 'out', why })
  if (announce) peers?.postMessage({ kind: 'out', base, why } satisfies Told)
}

const signedOut = (): ApiError => new ApiError('invalid_token', 'you are signed out', 401)

/** Asks the other tabs for a token that is newer than ours. */
function fromPeers(since: number, waitMs: number): Promise<boolean> {
  const newer = () => token !== null && token.got > since
  if (peers === null || newer()) return Promise.resolve(newer())
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(newer()), waitMs)
    const heard = () => {
      if (newer()) end(true)
    }
    const end = (found: boolean) => {
      clearTimeout(timer)
      peers.removeEventListener('message', heard)
      resolve(found)
    }
    peers.addEventListener('message', heard)
    peers.postMessage({ kind: 'ask', base } satisfies Told)
  })
}

/** When any tab last got a new token of this server. */
const stampKey = (): string => `${PREFIX}refreshed@${base}`
const stamp = (): number => read<number>(stampKey()) ?? 0

/** A new access token, for the one that did not do; many callers share one request. */
export function refresh(): Promise<void> {
  if (state.status === 'out') return Promise.reject(signedOut())
  const [asked, of] = [{ got: token?.got ?? -1, stamp: stamp() }, generation]
  if (refreshing !== null) return refreshing
  const mine = alone(async () => {
    // Whoever had the lock before may have asked already.
    if (token !== null && token.got > asked.got) return
    if (stamp() !== asked.stamp && (await fromPeers(asked.got, 300))) return
    if (of !== generation) throw signedOut()
    const response = await post('refresh', inCookie() ? {} : { refresh_token: kept()?.refresh_token ?? '' })
    const signedIn = await answered(response)
    if (of !== generation) {
      // Somebody left meanwhile: the session that this answer goes on with is to end as well.
      await endSession(signedIn.refresh_token).catch(() => undefined)
      throw signedOut()
    }
    enter(signedIn)
    write(stampKey(), Date.now())
  }).finally(() => {
    if (refreshing === mine) refreshing = null
  })
  refreshing = mine
  underway = mine.catch(() => undefined)
  return mine
}

/** Tells the server; throws where it has not understood. */
async function endSession(refresh_token: string | null): Promise<void> {
  const response = await post('logout', inCookie() ? {} : { refresh_token: refresh_token ?? '' })
  if (!response.ok && response.status !== 401) throw fromAnswer(response, await json(response))
}

const isOver = (error: ApiError): boolean => error.status === 401 || (error.status === 400 && !inCookie())

/** Called once: a session of before goes on. */
export async function start(): Promise<void> {
  if (read<boolean>(LEFT_KEY) === true) {
    base = ''
    try {
      await endSession(null)
      remove(LEFT_KEY)
    } catch {
      // Still not there: at the next start.
    }
    set({ status: 'out', why: null })
    return
  }
  const before = kept()
  if (before === null) {
    set({ status: 'out', why: null })
    return
  }
  try {
    await refresh()
  } catch (thrown) {
    const error = asApiError(thrown)
    // Another tab may have ended it while this one was asking.
    if (session.state().status === 'out') return
    if (isOver(error)) leave('Your session has ended. Sign in again.', false)
    // Without an answer it is still theirs: pages say what is wrong, and ask again.
    else set({ status: 'in', user: before.user, base })
  }
}

/** Signs in at this server (empty: where this page came from). */
export async function signIn(at: string, email: string, password: string): Promise<void> {
  await settled(at)
  enter(await answered(await post('login', { email, password })))
}

/** Makes an account and signs in. */
export async function register(
  at: string,
  account: { email: string; password: string; name?: string; bootstrap_secret?: string },
): Promise<void> {
  await settled(at)
  enter(await answered(await post('register', account)))
}

/** What is still on its way for whoever was here before would end the new session, or go to the new server. */
async function settled(at: string): Promise<void> {
  await leaving
  await underway
  const origin = at.trim().replace(/\/+$/, '')
  base = origin === window.location.origin ? '' : origin
  if (base === '') remove(BASE_KEY)
  else write(BASE_KEY, base)
  writeOfTab(BASE_KEY, base)
}

/** Changes the password; every other session ends. */
export async function changePassword(current_password: string, new_password: string): Promise<void> {
  const send = async () =>
    fetch(`${base}/api/v1/auth/password`, {
      method: 'POST',
      headers: { ...headers(), authorization: `Bearer ${await bearer()}` },
      body: JSON.stringify({ current_password, new_password }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  try {
    enter(await answered(await unreachable(send())))
  } catch (thrown) {
    throw asApiError(thrown)
  }
}

/** Signs out here, in all tabs, also when the server is not there (DB-4). */
export function signOut(): Promise<void> {
  const refresh_token = kept()?.refresh_token ?? null
  if (inCookie()) write(LEFT_KEY, true)
  leave(null, true)
  leaving = endSession(refresh_token)
    // The cookie is ended at the next start otherwise; nothing shows until then.
    .then(() => remove(LEFT_KEY), () => undefined)
    .finally(() => {
      leaving = null
    })
  return leaving
}

/** An access token that is good for a while. */
async function bearer(): Promise<string> {
  if (state.status === 'out') throw signedOut()
  if (token === null || token.until - performance.now() < EARLY_MS) await refresh()
  return token?.value ?? ''
}

/** `fetch` as the signed-in user: renews the token before its end, and once after a 401. */
export async function authorized(request: Request): Promise<Response> {
  const again = request.clone()
  let sent = ''
  const send = async (what: Request) => {
    sent = await bearer()
    what.headers.set('authorization', `Bearer ${sent}`)
    return unreachable(fetch(what))
  }
  try {
    const first = await send(request)
    if (first.status !== 401) return first
    const body = await json(first.clone())
    const code = fromAnswer(first, body).code
    // A wrong password is 401 as well, and no reason to ask for a token.
    if (code !== 'invalid_token') {
      if (code === 'account_disabled') leave('This account has been deactivated.', true)
      return first
    }
    // An answer that took long may be about a token which has been renewed since.
    if (token === null || token.value === sent) await refresh()
    return await send(again)
  } catch (thrown) {
    const error = asApiError(thrown)
    if (isOver(error) && session.state().status === 'in') leave('Your session has ended. Sign in again.', true)
    throw error
  }
}
