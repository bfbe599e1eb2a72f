/**
 * Who is signed in at this moment, in this tab and, by what tabs tell each other, in the whole browser; what is kept of it.
 */
import { inCookie, isCookieless, type SignedIn, signedOut, type User } from './authRequests'
import { keeps, keyOf, clear, read, readOfTab, remove, write, writeOfTab } from '../storage'
import { channel } from './tabs'

/** One sign-in, as all tabs of the browser know it. */
export interface SignIn {
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
export const LEFT_KEY = keyOf('signed_out', '')
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
export const sessionKey = (base: string): string => keyOf('session', base)

export let token: Token | null = null
export let state: SessionState = { status: 'starting' }
export let current = before(lastBase())
/** Sign-ins of which this tab knows that they have ended: what others still say of them is late. */
const over = new Set<string>()
/** How often somebody left: a sign-in under way is not for whoever left meanwhile. */
export let departures = 0
/** The refresh token where it is in no cookie; storage, which other tabs write too, may have a newer one. */
export let secret: string | null = null
const listeners = new Set<() => void>()
const ends = new Set<() => void>()
const peers = channel(keyOf('session', ''))

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
export function kept(base: string): Kept | null {
  const found = read<Partial<Kept>>(sessionKey(base))
  return typeof found?.base === 'string' && typeof found.user?.id === 'string' ? (found as Kept) : null
}

/** The sign-in that was there before the reload, if one was. */
function before(base: string): SignIn {
  const known = kept(base)
  return { base, id: known?.id ?? '', since: known?.since ?? 0, ended: new AbortController() }
}

/** Turns to the server that this page came from, whichever was used last. */
export function toOwnServer(): void {
  current = before('')
}

export function begin(base: string): SignIn {
  // Later than the one that was here, whatever became of the clock.
  const since = Math.max(Date.now(), current.since + 1)
  return { base, id: `${since.toString(36)}.${Math.random().toString(36).slice(2)}`, since, ended: new AbortController() }
}

export function set(next: SessionState): void {
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
export function stillIn(of: SignIn): void {
  if (of !== current || state.status === 'out') throw signedOut()
}

/** Whoever is here is no more: what they asked for ends, and what is known of them goes before the next one is shown. */
function end(): void {
  over.add(current.id)
  if (over.size > MAX_OVER) over.delete([...over][0] ?? '')
  token = null
  secret = null
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

export function enter(of: SignIn, signedIn: SignedIn): void {
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

export const say = (told: Told): void => peers?.postMessage(told)

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

export function leave(why: string | null, announce: boolean): void {
  const left = current
  departures += 1
  end()
  current = { base: left.base, id: '', since: left.since, ended: new AbortController() }
  clear(left.base, [BASE_KEY, LEFT_KEY])
  set({ status: 'out', why })
  if (announce) say({ kind: 'out', base: left.base, id: left.id, why })
}

/** Asks the other tabs for a token that is not the one which did not do. */
export function fromPeers(refused: string | null): Promise<boolean> {
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
