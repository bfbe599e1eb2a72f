/**
 * Who is signed in, and the tokens (reliability.md section 3, "dashboard session survives reload").
 *
 * On the server that this page came from, the refresh token is in a cookie that no script can read, and the access
 * token in memory. On another server (`DASHBOARD_CONNECT_SRC`) the refresh token is in storage, which the sign-in page
 * warns of. Refreshes happen one at a time, over all requests of a tab (one promise) and over all tabs (a lock), and a
 * tab that waited takes the token of the one that asked.
 *
 * Every request belongs to the sign-in under which it began, and ends with it: none is sent again in the name of
 * whoever came after, and none to another server.
 */
import { answered, forgetSession, inCookie, isCookieless, isOver, json, post, setCookieless, type SignedIn, signedOut, type User } from './auth'
import { cookies } from './cookies'
import { asApiError, fromAnswer, unreachable } from './error'
import { address } from './place'
import { clear, keeps, keyOf, read, readOfTab, remember, remove, write, writeOfTab } from './storage'
import { alone, channel } from './tabs'

export type { User } from './auth'

/** One sign-in, as all tabs of the browser know it. */
interface SignIn {
  /** The server: empty for the one that this page came from. */
  readonly base: string
  /** Names it among the tabs; no secret. */
  readonly id: string
  /** When it began by this browser's clock: of two that cross, the later one stays. */
  readonly since: number
  /** Aborted with its end, and with it all that was asked for under it. */
  readonly ended: AbortController
}

/** What is kept over reloads; a refresh token only where there is no cookie. */
interface Kept {
  base: string
  user: User
  id?: string
  since?: number
  refresh_token?: string
}

export type SessionState =
  | { status: 'starting' }
  | { status: 'out'; why: string | null }
  | { status: 'in'; user: User; base: string }

/** Of this tab, and for new ones the last that was used. */
const BASE_KEY = keyOf('base', '')
/** Somebody signed out while the server was not there: its cookie is to be ended before anything else. */
const LEFT_KEY = keyOf('signed_out', '')
/** An access token is renewed this long before its end. */
const EARLY_MS = 30_000
/** Tabs that have something answer within this. */
const PEERS_MS = 300
/** Sign-ins that are over are told apart from new ones as long as tabs may still speak of them. */
const MAX_OVER = 100

interface Token {
  value: string
  /** Of this page's monotonic clock: a wrong wall clock ends no session. */
  until: number
}

/** Of a server's session: one for each server, its tokens go there and nowhere else. */
const sessionKey = (base: string): string => keyOf('session', base)

let token: Token | null = null
let state: SessionState = { status: 'starting' }
let current = before(lastBase())
/** Sign-ins of which this tab knows that they have ended: what others still say of them is late. */
const over = new Set<string>()
/** How often somebody left: a sign-in under way is not for whoever left meanwhile. */
let departures = 0
/** The refresh token where it is in no cookie; storage, which other tabs write too, may have a newer one. */
let secret: string | null = null
let leaving: Promise<void> | null = null
let refreshing: Promise<void> | null = null
/** What may still bring new tokens, also for those who left: nobody signs in before its end. */
const underway = new Set<Promise<unknown>>()
const listeners = new Set<() => void>()
const ends = new Set<() => void>()
const peers = channel('hexa.session')

type Told =
  | { kind: 'token'; base: string; id: string; since: number; value: string; left_ms: number; user: User }
  | { kind: 'out'; base: string; id: string; why: string | null }
  | { kind: 'ask'; base: string }
  | { kind: 'cleared' }

function lastBase(): string {
  const last: unknown = readOfTab(BASE_KEY) ?? read(BASE_KEY)
  return typeof last === 'string' ? last : ''
}

/** What an earlier version or somebody else left there may be anything. */
function kept(base: string): Kept | null {
  const found = read<Partial<Kept>>(sessionKey(base))
  return typeof found?.base === 'string' && typeof found.user?.id === 'string' ? (found as Kept) : null
}

/** The sign-in that was there before the reload, if one was. */
function before(base: string): SignIn {
  const known = kept(base)
  return { base, id: known?.id ?? '', since: known?.since ?? 0, ended: new AbortController() }
}

function begin(base: string): SignIn {
  // Later than the one that was here, whatever became of the clock.
  const since = Math.max(Date.now(), current.since + 1)
  return { base, id: `${since.toString(36)}.${Math.random().toString(36).slice(2)}`, since, ended: new AbortController() }
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
  base: (): string => current.base,
  /** Aborted when whoever is signed in is no more. */
  signal: (): AbortSignal => current.ended.signal,
  /** The server and account of whoever is signed in, or was before the reload and is asked for. */
  whose: (): { base: string; account: string } | null => {
    const { base } = current
    const user = state.status === 'in' ? state.user : state.status === 'starting' ? kept(base)?.user : undefined
    return user === undefined ? null : { base, account: user.id }
  },
  /** Hears that whoever was signed in is no more, before anything is drawn for the next one. */
  onEnd: (listener: () => void): void => {
    ends.add(listener)
  },
  /** Why this session does not outlast the page; `null` where it does. */
  passing: (): string | null => {
    const missing = isCookieless() ? 'cookies' : keeps() ? null : 'data'
    return missing === null ? null : `This browser keeps no ${missing} of this page: a session here lasts until the page is loaded anew.`
  },
}

/** Throws where it is not the one of now: everything that waits asks this before it goes on. */
function stillIn(of: SignIn): void {
  if (of !== current || state.status === 'out') throw signedOut()
}

/** Whoever is here is no more: what they asked for ends, and what is known of them goes before the next one is shown. */
function end(): void {
  over.add(current.id)
  if (over.size > MAX_OVER) over.delete([...over][0] ?? '')
  token = null
  secret = null
  refreshing = null
  current.ended.abort(signedOut())
  for (const listener of ends) listener()
}

function take(of: SignIn, value: string, leftMs: number, user: User): void {
  const other = of !== current || (state.status === 'in' && state.user.id !== user.id)
  if (other) end()
  current = of
  token = { value, until: performance.now() + leftMs }
  if (other || state.status !== 'in' || JSON.stringify(state.user) !== JSON.stringify(user)) set({ status: 'in', user, base: of.base })
}

function enter(of: SignIn, signedIn: SignedIn): void {
  take(of, signedIn.access_token, signedIn.expires_in * 1000, signedIn.user)
  if (!inCookie(of.base)) secret = signedIn.refresh_token ?? secret
  remove(LEFT_KEY)
  keep()
  tell()
}

/** Writes down what the next page needs; not what only this page's memory can hold. */
function keep(): void {
  const { base, id, since } = current
  if (state.status !== 'in' || (base === '' && isCookieless())) return
  const next: Kept = { base, user: state.user, id, since }
  if (!inCookie(base) && secret !== null) next.refresh_token = secret
  write(sessionKey(base), next)
  if (base === '') remove(BASE_KEY)
  else write(BASE_KEY, base)
  writeOfTab(BASE_KEY, base)
}

/** A sign-out from another server may have had the browser forget everything of this origin. */
function keepAgain(): void {
  if (state.status === 'in' && (kept(current.base) === null || readOfTab(BASE_KEY) !== current.base)) keep()
}

function tell(): void {
  // Whoever could not go on with it by themselves would end it when the token ends.
  if (token === null || state.status !== 'in' || (current.base === '' && isCookieless())) return
  const { base, id, since } = current
  const left_ms = token.until - performance.now()
  say({ kind: 'token', base, id, since, value: token.value, left_ms, user: state.user })
}

const say = (told: Told): void => peers?.postMessage(told)

/** The sign-in that a tab speaks of, as this tab takes it: none where it has ended here, or began before ours. */
function spokenOf({ base, id, since }: { base: string; id: string; since: number }): SignIn | null {
  if (over.has(id)) return null
  if (id === current.id && state.status !== 'out') return current
  if (state.status === 'in' && since <= current.since) return null
  return { base, id, since, ended: new AbortController() }
}

peers?.addEventListener('message', (event: MessageEvent<Told>) => {
  const told = event.data
  if (told.kind === 'cleared') keepAgain()
  if (told.kind === 'cleared' || told.base !== current.base) return
  if (told.kind === 'token' && !isCookieless()) {
    const of = spokenOf(told)
    // Of the same one, and it ends before ours: it was on its way for longer.
    const older = of === current && token !== null && performance.now() + told.left_ms < token.until
    if (of === null || older) return
    take(of, told.value, told.left_ms, told.user)
    if (!inCookie(of.base)) secret = kept(of.base)?.refresh_token ?? secret
  }
  if (told.kind === 'out') {
    if (told.id === current.id && state.status !== 'out') leave(told.why, false)
    else if (told.id !== current.id) over.add(told.id)
  }
  if (told.kind === 'ask') tell()
})

// The last chance before a reload or a restart of the browser.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) keepAgain()
})

function leave(why: string | null, announce: boolean): void {
  const left = current
  departures += 1
  end()
  current = { base: left.base, id: '', since: left.since, ended: new AbortController() }
  clear(left.base, [BASE_KEY, LEFT_KEY])
  set({ status: 'out', why })
  if (announce) say({ kind: 'out', base: left.base, id: left.id, why })
}

/** Asks the other tabs for a token that is not the one which did not do. */
function fromPeers(refused: string | null): Promise<boolean> {
  const newer = () => token !== null && token.value !== refused
  if (peers === null || newer()) return Promise.resolve(newer())
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(newer()), PEERS_MS)
    const heard = () => {
      if (newer()) done(true)
    }
    const done = (found: boolean) => {
      clearTimeout(timer)
      peers.removeEventListener('message', heard)
      resolve(found)
    }
    peers.addEventListener('message', heard)
    say({ kind: 'ask', base: current.base })
  })
}

/** When any tab last got a new token of this server. */
const stampKey = (base: string): string => keyOf('refreshed', base)

/** Keeps whoever would sign in waiting until its end. */
function watched<T>(work: Promise<T>): Promise<T> {
  underway.add(work)
  const gone = () => underway.delete(work)
  work.then(gone, gone)
  return work
}

/** What an answer brought for somebody who left meanwhile is to end as well. */
async function orEnd(of: SignIn, signedIn: SignedIn): Promise<SignedIn> {
  if (of === current && state.status !== 'out') return signedIn
  await endSession(of.base, signedIn.refresh_token).catch(() => undefined)
  throw signedOut()
}

async function renew(of: SignIn): Promise<void> {
  const refused = token?.value ?? null
  const stamp = read<number>(stampKey(of.base))
  await alone(keyOf('refresh', of.base), async (sure) => {
    stillIn(of)
    // Whoever had the lock before may have asked already.
    if (token !== null && token.value !== refused) return
    if ((!sure || read<number>(stampKey(of.base)) !== stamp) && (await fromPeers(refused))) return
    stillIn(of)
    const given = inCookie(of.base) ? {} : { refresh_token: kept(of.base)?.refresh_token ?? secret ?? '' }
    let signedIn: SignedIn
    try {
      signedIn = await answered(await post(of.base, 'refresh', given))
    } catch (thrown) {
      // Where tabs could not keep apart, another one may have been faster.
      if (of === current && isOver(asApiError(thrown), of.base) && (await fromPeers(refused))) return
      throw thrown
    }
    enter(of, await orEnd(of, signedIn))
    write(stampKey(of.base), Date.now())
  })
}

/** A new access token, for the one that did not do; many callers share one request. */
export function refresh(): Promise<void> {
  if (state.status === 'out') return Promise.reject(signedOut())
  if (refreshing !== null) return refreshing
  const mine = watched(
    renew(current).finally(() => {
      if (refreshing === mine) refreshing = null
    }),
  )
  refreshing = mine
  return mine
}

/** Tells the server; throws where it has not understood. */
async function endSession(base: string, refresh_token: string | null): Promise<void> {
  // The answer may have the browser forget everything of this origin, also what belongs to other servers.
  const putBack = remember(base)
  const response = await post(base, 'logout', inCookie(base) ? {} : { refresh_token: refresh_token ?? '' })
  putBack()
  say({ kind: 'cleared' })
  if (!response.ok && response.status !== 401) throw fromAnswer(response, await json(response))
}

/** Called once: a session of before goes on. */
export async function start(): Promise<void> {
  setCookieless(cookies() === 'none')
  if (read<boolean>(LEFT_KEY) === true) {
    current = before('')
    try {
      await endSession('', null)
      remove(LEFT_KEY)
    } catch {
      // Still not there: at the next start.
    }
    set({ status: 'out', why: null })
    return
  }
  const of = current
  const known = kept(of.base)
  if (known === null) {
    set({ status: 'out', why: null })
    return
  }
  try {
    await refresh()
  } catch (thrown) {
    const error = asApiError(thrown)
    // Another tab may have ended it while this one was asking.
    if (of !== current || session.state().status === 'out') return
    if (isOver(error, of.base)) leave('Your session has ended. Sign in again.', false)
    // Without an answer it is still theirs: pages say what is wrong, and ask again.
    else set({ status: 'in', user: known.user, base: of.base })
  }
}

/** Asks the server again where its session is, after it said that it has ended one. */
export async function verify(): Promise<void> {
  const of = current
  try {
    await refresh()
  } catch (thrown) {
    if (of === current && state.status === 'in' && isOver(asApiError(thrown), of.base)) leave('Your session has ended. Sign in again.', true)
  }
}

/** Signs in at this server (empty: where this page came from). */
export const signIn = (at: string, email: string, password: string): Promise<void> => entering(at, 'login', { email, password })

interface NewAccount {
  email: string
  password: string
  name?: string
  bootstrap_secret?: string
}

/** Makes an account and signs in. */
export const register = (at: string, account: NewAccount): Promise<void> => entering(at, 'register', account)

async function entering(at: string, path: 'login' | 'register', account: NewAccount): Promise<void> {
  // What is still on its way for whoever was here before would end the new session.
  await leaving
  await Promise.allSettled(underway)
  const typed = at.trim().replace(/\/+$/, '')
  const base = typed === address('') ? '' : typed
  const seen = base === '' ? cookies() : 'all'
  setCookieless(seen === 'none')
  const before = departures
  const ask = async (what: 'login' | 'register') => {
    const signedIn = await answered(await post(base, what, what === 'login' ? { email: account.email, password: account.password } : account))
    if (departures === before) return signedIn
    await endSession(base, signedIn.refresh_token).catch(() => undefined)
    throw signedOut()
  }
  const signedIn = await ask(path)
  enter(begin(base), signedIn)
  if (seen !== 'plain') return
  // Whether this server's cookie was kept is seen by using it.
  const of = current
  try {
    await refresh()
  } catch (thrown) {
    if (of !== current || !isOver(asApiError(thrown), base)) return
    setCookieless(true)
    remove(sessionKey(base))
    enter(of, await orEnd(of, await ask('login')))
    set({ ...state })
    await forgetSession(base, signedIn.access_token)
  }
}

/** Changes the password; every other session ends. */
export function changePassword(current_password: string, new_password: string): Promise<void> {
  const of = current
  const work = async () => {
    const token = await bearer(of)
    enter(of, await orEnd(of, await answered(await post(of.base, 'password', { current_password, new_password }, token))))
  }
  return watched(
    work().catch((thrown: unknown) => {
      throw asApiError(thrown)
    }),
  )
}

/** Signs out here, in all tabs, also when the server is not there (DB-4). */
export function signOut(): Promise<void> {
  const { base } = current
  const refresh_token = kept(base)?.refresh_token ?? secret
  if (inCookie(base)) write(LEFT_KEY, true)
  leave(null, true)
  leaving = endSession(base, refresh_token)
    // The cookie is ended at the next start otherwise; nothing shows until then.
    .then(
      () => {
        // A late answer may bring one more.
        if (underway.size === 0) remove(LEFT_KEY)
        else void Promise.allSettled(underway).then(() => remove(LEFT_KEY))
      },
      () => undefined,
    )
    .finally(() => {
      leaving = null
    })
  return leaving
}

/** An access token that is good for a while. */
async function bearer(of: SignIn): Promise<string> {
  stillIn(of)
  if (token === null || token.until - performance.now() < EARLY_MS) await refresh()
  stillIn(of)
  return token?.value ?? ''
}

/** `fetch` as the signed-in user: renews the token before its end, and once after a 401. */
export async function authorized(request: Request): Promise<Response> {
  const of = current
  stillIn(of)
  // Made for the server of before.
  if (!request.url.startsWith(`${address(of.base)}/`)) throw signedOut()
  const signal = AbortSignal.any([request.signal, of.ended.signal])
  const again = request.clone()
  let sent = ''
  const send = async (what: Request) => {
    sent = await bearer(of)
    what.headers.set('authorization', `Bearer ${sent}`)
    return unreachable(fetch(new Request(what, { signal })))
  }
  try {
    const first = await send(request)
    if (first.status !== 401) return first
    const body = await json(first.clone())
    stillIn(of)
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
    if (of.ended.signal.aborted) throw signedOut()
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    const error = asApiError(thrown)
    if (isOver(error, of.base) && session.state().status === 'in') leave('Your session has ended. Sign in again.', true)
    throw error
  }
}
