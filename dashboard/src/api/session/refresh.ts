/**
 * New access tokens and the end of sessions.
 *
 * Refreshes happen one at a time: all requests of a tab share one promise, all tabs of a browser one lock, and a tab that
 * waited takes the token of the tab that asked.
 */
import { asApiError, fromAnswer } from '../error'
import { isStorageAvailable, read, snapshotOtherServers, storageKey, write } from '../storage'
import { isSessionOver, postAuth, readJson, readSignedIn, type SignedIn, signedOutError, usesCookie } from './authRequests'
import { accessToken, assertCurrent, current, endSession, refreshToken, session, type SignIn, startSession, state } from './current'
import { savedSession } from './savedSession'
import { postToTabs } from './tabMessages'
import { withTabLock } from './tabs'
import { tokenFromTabs } from './tabSync'

/** A tab that got a token this recently is still open, and can be asked for it. */
const RECENT_MS = 10_000

export const SESSION_ENDED = 'Your session has ended. Sign in again.'

let refreshing: Promise<void> | null = null
/** Requests that may still bring new tokens, also after a sign-out: nobody signs in before they have ended. */
const pending = new Set<Promise<unknown>>()

session.onEnd(() => {
  refreshing = null
})

/** When any tab last got a new token of this server. */
const refreshedAtKey = (base: string): string => storageKey('refreshed', base)

/** Makes the next sign-in wait for `work`. */
export function trackPending<T>(work: Promise<T>): Promise<T> {
  pending.add(work)
  const done = () => pending.delete(work)
  work.then(done, done)
  return work
}

export const hasPending = (): boolean => pending.size > 0

/** Waits for every request that may still bring tokens. */
export async function allSettled(): Promise<void> {
  await Promise.allSettled(pending)
}

/** Tells the server that the session has ended; throws when it did not understand. */
export async function requestLogout(base: string, refresh_token: string | null): Promise<void> {
  // The answer may make the browser clear this origin's storage, including what belongs to other servers.
  const restore = snapshotOtherServers(base)
  const response = await postAuth(base, 'logout', usesCookie(base) ? {} : { refresh_token: refresh_token ?? '' })
  restore()
  postToTabs({ kind: 'cleared' })
  if (!response.ok && response.status !== 401) throw fromAnswer(response, await readJson(response))
}

/** Gives back the answer while `of` is the current sign-in; else ends its session and throws. */
export async function keepOrLogOut(of: SignIn, signedIn: SignedIn): Promise<SignedIn> {
  if (of === current && state.status !== 'out') return signedIn
  await requestLogout(of.base, signedIn.refresh_token).catch(() => undefined)
  throw signedOutError()
}

async function renewToken(of: SignIn, ownRequest: boolean): Promise<void> {
  const refused = accessToken?.value ?? null
  const refreshedBefore = read<number>(refreshedAtKey(of.base))
  await withTabLock(storageKey('refresh', of.base), async (exclusive) => {
    assertCurrent(of)
    // The tab that held the lock before may have renewed it already.
    if (accessToken !== null && accessToken.value !== refused) return
    const refreshedAt = read<number>(refreshedAtKey(of.base))
    const recent = refreshedAt === null ? !isStorageAvailable() : Date.now() - refreshedAt < RECENT_MS
    const mayBeShared = refreshedAt !== refreshedBefore || (!exclusive && recent)
    if (!ownRequest && mayBeShared && (await tokenFromTabs(refused))) return
    assertCurrent(of)
    const body = usesCookie(of.base) ? {} : { refresh_token: savedSession(of.base)?.refresh_token ?? refreshToken ?? '' }
    let signedIn: SignedIn
    try {
      signedIn = await readSignedIn(await postAuth(of.base, 'refresh', body))
    } catch (thrown) {
      // Without a lock, another tab may have been faster.
      if (of === current && isSessionOver(asApiError(thrown), of.base) && (await tokenFromTabs(refused))) return
      throw thrown
    }
    startSession(of, await keepOrLogOut(of, signedIn))
    write(refreshedAtKey(of.base), Date.now())
  })
}

/** Gets a new access token; callers at the same time share one request. `ownRequest`: not the token of another tab. */
export function refresh(ownRequest = false): Promise<void> {
  if (state.status === 'out') return Promise.reject(signedOutError())
  if (refreshing !== null) return refreshing
  const own = trackPending(
    renewToken(current, ownRequest).finally(() => {
      if (refreshing === own) refreshing = null
    }),
  )
  refreshing = own
  return own
}

/** Checks with the server whether the session has ended; signs out in every tab if it has. */
export async function verify(): Promise<void> {
  const of = current
  try {
    await refresh()
  } catch (thrown) {
    if (of === current && state.status === 'in' && isSessionOver(asApiError(thrown), of.base)) endSession(SESSION_ENDED, true)
  }
}
