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
import { answered, forgetSession, inCookie, isOver, json, post, setCookieless, type SignedIn, signedOut } from './authRequests'
import { cookies } from './cookies'
import {
  begin, current, departures, enter, fromPeers, kept, leave, LEFT_KEY, say, secret, session, sessionKey, set, type SignIn, state, stillIn, token, toOwnServer,
} from './current'
import { asApiError, fromAnswer, unreachable } from '../error'
import { address } from '../serverUrl'
import { keeps, keyOf, read, remember, remove, write } from '../storage'
import { alone } from './tabs'

export type { User } from './authRequests'
export { session, type SessionState } from './current'

/** Whoever got a token so lately is still there to be asked for it. */
const LATELY_MS = 10_000
/** An access token is renewed this long before its end. */
const EARLY_MS = 30_000
/** The second token may be one that another tab had, and that has ended as well; the third is new. */
const MAX_SENDS = 3

let leaving: Promise<void> | null = null
let refreshing: Promise<void> | null = null
/** What may still bring new tokens, also for those who left: nobody signs in before its end. */
const underway = new Set<Promise<unknown>>()

session.onEnd(() => {
  refreshing = null
})

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

async function renew(of: SignIn, own: boolean): Promise<void> {
  const refused = token?.value ?? null
  const stamp = read<number>(stampKey(of.base))
  await alone(keyOf('refresh', of.base), async (sure) => {
    stillIn(of)
    // Whoever had the lock before may have asked already.
    if (token !== null && token.value !== refused) return
    const last = read<number>(stampKey(of.base))
    const lately = last === null ? !keeps() : Date.now() - last < LATELY_MS
    if (!own && (last !== stamp || (!sure && lately)) && (await fromPeers(refused))) return
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

/** A new access token, for the one that did not do; many callers share one request. `own`: not one of another tab. */
export function refresh(own = false): Promise<void> {
  if (state.status === 'out') return Promise.reject(signedOut())
  if (refreshing !== null) return refreshing
  const mine = watched(
    renew(current, own).finally(() => {
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
    toOwnServer()
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
  invitation?: string
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

/** `fetch` as the signed-in user: renews the token before its end, and after a 401. */
export async function authorized(request: Request): Promise<Response> {
  const of = current
  stillIn(of)
  // Made for the server of before.
  if (!request.url.startsWith(`${address(of.base)}/`)) throw signedOut()
  const signal = AbortSignal.any([request.signal, of.ended.signal])
  try {
    for (let sends = 1; ; sends += 1) {
      const sent = await bearer(of)
      const what = new Request(sends < MAX_SENDS ? request.clone() : request, { signal })
      what.headers.set('authorization', `Bearer ${sent}`)
      const answer = await unreachable(fetch(what))
      if (answer.status !== 401) return answer
      const body = await json(answer.clone())
      stillIn(of)
      const code = fromAnswer(answer, body).code
      // A wrong password is 401 as well, and no reason to ask for a token.
      if (code !== 'invalid_token') {
        if (code === 'account_disabled') leave('This account has been deactivated.', true)
        return answer
      }
      if (sends === MAX_SENDS) return answer
      // An answer that took long may be about a token which has been renewed since.
      if (token === null || token.value === sent) await refresh(sends > 1)
    }
  } catch (thrown) {
    if (of.ended.signal.aborted) throw signedOut()
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    const error = asApiError(thrown)
    if (isOver(error, of.base) && session.state().status === 'in') leave('Your session has ended. Sign in again.', true)
    throw error
  }
}
