/** Who is signed in, in this tab. `tabSync.ts` keeps the tabs of a browser in step. */
import { clearServerData, remove } from '../storage'
import { isCookieless, type SignedIn, signedOutError, type User, usesCookie } from './authRequests'
import { isSaved, lastServer, persistenceWarning, save, savedSession, type SavedSession, SERVER_KEY, SIGNED_OUT_KEY } from './savedSession'
import { postToTabs } from './tabMessages'

/** One sign-in, as all tabs of the browser know it. */
export interface SignIn {
  /** The base URL of its server; empty for the server that this page came from. */
  readonly base: string
  /** Identifies it among the tabs; not a secret. */
  readonly id: string
  /** When it began, by this browser's clock: the later of two sign-ins wins. */
  readonly since: number
  /** Aborted when the sign-in ends, and every request under it with it. */
  readonly ended: AbortController
}

export type SessionState =
  | { status: 'starting' }
  | { status: 'out'; why: string | null }
  | { status: 'in'; user: User; base: string }

/** How many ended sign-ins are remembered, to recognise late messages of other tabs. */
const MAX_ENDED_IDS = 100

interface AccessToken {
  value: string
  /** Its end on the page's monotonic clock, so that a wrong wall clock ends no session. */
  until: number
}

export let accessToken: AccessToken | null = null
export let state: SessionState = { status: 'starting' }
export let current = restoredSignIn(lastServer())
/** Counts sign-outs: a sign-in under way is discarded when somebody signed out meanwhile. */
export let signOutCount = 0
/** The refresh token where no cookie holds it; another tab may have written a newer one to storage. */
export let refreshToken: string | null = null
/** Sign-ins that have ended: later messages about them are ignored. */
const endedIds = new Set<string>()
const listeners = new Set<() => void>()
const endListeners = new Set<() => void>()

/** The sign-in of the page before a reload, if there was one. */
function restoredSignIn(base: string): SignIn {
  const saved = savedSession(base)
  return { base, id: saved?.id ?? '', since: saved?.since ?? 0, ended: new AbortController() }
}

/** Switches to the server that this page came from. */
export function switchToOwnServer(): void {
  current = restoredSignIn('')
}

/** A new sign-in; always later than the current one, even when the clock was set back. */
export function newSignIn(base: string): SignIn {
  const since = Math.max(Date.now(), current.since + 1)
  return { base, id: `${since.toString(36)}.${Math.random().toString(36).slice(2)}`, since, ended: new AbortController() }
}

/** Replaces the state and notifies every listener. */
export function setState(next: SessionState): void {
  state = next
  for (const listener of listeners) listener()
}

export const session = {
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
  state: (): SessionState => state,
  /** The server's base URL; empty for the server that this page came from. */
  base: (): string => current.base,
  /** Aborted when the current sign-in ends. */
  signal: (): AbortSignal => current.ended.signal,
  /** Server and account of the current sign-in, or of the one that is being restored. */
  identity: (): { base: string; account: string } | null => {
    const { base } = current
    const user = state.status === 'in' ? state.user : state.status === 'starting' ? savedSession(base)?.user : undefined
    return user === undefined ? null : { base, account: user.id }
  },
  /** Calls when the current sign-in ends, before anything is rendered for the next one. */
  onEnd: (listener: () => void): void => {
    endListeners.add(listener)
  },
  /** Why this session ends with the page; `null` where it survives a reload. */
  persistenceWarning: (): string | null => persistenceWarning(isCookieless()),
}

/** Throws when `of` is no longer the current sign-in; to be called after every wait. */
export function assertCurrent(of: SignIn): void {
  if (of !== current || state.status === 'out') throw signedOutError()
}

/** Ends the current sign-in: aborts its requests and forgets its data before the next one is shown. */
function endCurrent(): void {
  markEnded(current.id)
  accessToken = null
  refreshToken = null
  current.ended.abort(signedOutError())
  for (const listener of endListeners) listener()
}

export const hasEnded = (id: string): boolean => endedIds.has(id)

/** Remembers that a sign-in has ended; the oldest is forgotten when there are many. */
export function markEnded(id: string): void {
  endedIds.add(id)
  if (endedIds.size > MAX_ENDED_IDS) endedIds.delete([...endedIds][0] ?? '')
}

/** Makes `of` the current sign-in, with this access token. */
export function adoptToken(of: SignIn, value: string, leftMs: number, user: User): void {
  const other = of !== current || (state.status === 'in' && state.user.id !== user.id)
  if (other) endCurrent()
  current = of
  accessToken = { value, until: performance.now() + leftMs }
  if (other || state.status !== 'in' || JSON.stringify(state.user) !== JSON.stringify(user)) setState({ status: 'in', user, base: of.base })
}

/** Takes the refresh token that another tab has written to storage, where no cookie holds it. */
export function readRefreshToken(base: string): void {
  if (!usesCookie(base)) refreshToken = savedSession(base)?.refresh_token ?? refreshToken
}

/** Makes `of` the current sign-in, from the server's answer; saves it and tells the other tabs. */
export function startSession(of: SignIn, signedIn: SignedIn): void {
  adoptToken(of, signedIn.access_token, signedIn.expires_in * 1000, signedIn.user)
  if (!usesCookie(of.base)) refreshToken = signedIn.refresh_token ?? refreshToken
  remove(SIGNED_OUT_KEY)
  saveSession()
  shareToken()
}

/** Saves what the next page needs; nothing where only this page's memory holds the session. */
function saveSession(): void {
  const { base, id, since } = current
  if (state.status !== 'in' || (base === '' && isCookieless())) return
  const next: SavedSession = { base, user: state.user, id, since }
  if (!usesCookie(base) && refreshToken !== null) next.refresh_token = refreshToken
  save(next)
}

/** Saves the session again where it is missing: signing out of another server may clear this origin's storage. */
export function saveIfMissing(): void {
  if (state.status === 'in' && !isSaved(current.base)) saveSession()
}

/** Sends the access token to the other tabs; not where they could not renew it themselves. */
export function shareToken(): void {
  if (accessToken === null || state.status !== 'in' || (current.base === '' && isCookieless())) return
  const { base, id, since } = current
  const left_ms = accessToken.until - performance.now()
  postToTabs({ kind: 'token', base, id, since, value: accessToken.value, left_ms, user: state.user })
}

/** Ends the session in this tab; `why` is shown on the sign-in page, `announce` ends it in the other tabs too. */
export function endSession(why: string | null, announce: boolean): void {
  const ended = current
  signOutCount += 1
  endCurrent()
  current = { base: ended.base, id: '', since: ended.since, ended: new AbortController() }
  clearServerData(ended.base, [SERVER_KEY, SIGNED_OUT_KEY])
  setState({ status: 'out', why })
  if (announce) postToTabs({ kind: 'out', base: ended.base, id: ended.id, why })
}
