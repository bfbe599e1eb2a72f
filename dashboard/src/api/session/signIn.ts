/** How sessions begin and end: at the start of the page, by signing in, and by signing out. */
import { asApiError } from '../error'
import { serverUrl } from '../serverUrl'
import { read, remove, write } from '../storage'
import { freshAccessToken } from './authorized'
import { isSessionOver, postAuth, readSignedIn, revokeOwnSession, setCookieless, signedOutError, usesCookie } from './authRequests'
import { cookieSupport } from './cookies'
import { current, endSession, newSignIn, refreshToken, session, setState, signOutCount, startSession, state, switchToOwnServer } from './current'
import { allSettled, hasPending, keepOrLogOut, refresh, requestLogout, SESSION_ENDED, trackPending } from './refresh'
import { savedSession, sessionKey, SIGNED_OUT_KEY } from './savedSession'

let signingOut: Promise<void> | null = null

/** Restores the session of the page before a reload; to be called once. */
export async function start(): Promise<void> {
  setCookieless(cookieSupport() === 'none')
  if (read<boolean>(SIGNED_OUT_KEY) === true) {
    switchToOwnServer()
    try {
      await requestLogout('', null)
      remove(SIGNED_OUT_KEY)
    } catch {
      // The server is still away: at the next start.
    }
    setState({ status: 'out', why: null })
    return
  }
  const of = current
  const saved = savedSession(of.base)
  if (saved === null) {
    setState({ status: 'out', why: null })
    return
  }
  try {
    await refresh()
  } catch (thrown) {
    const error = asApiError(thrown)
    // Another tab may have signed out while this one was asking.
    if (of !== current || session.state().status === 'out') return
    if (isSessionOver(error, of.base)) endSession(SESSION_ENDED, false)
    // Without an answer the session may still be valid: pages show the error, and ask again.
    else setState({ status: 'in', user: saved.user, base: of.base })
  }
}

interface Credentials {
  email: string
  password: string
}

interface NewAccount extends Credentials {
  name?: string
  bootstrap_secret?: string
  invitation?: string
}

/** Signs in at a server; empty for the server that this page came from. */
export const signIn = (server: string, email: string, password: string): Promise<void> => authenticate(server, 'login', { email, password })

/** Creates an account at a server, and signs in. */
export const register = (server: string, account: NewAccount): Promise<void> => authenticate(server, 'register', account)

async function authenticate(server: string, path: 'login' | 'register', account: NewAccount): Promise<void> {
  // A late answer for the previous sign-in would end the new session.
  await signingOut
  await allSettled()
  const typed = server.trim().replace(/\/+$/, '')
  const base = typed === serverUrl('') ? '' : typed
  const support = base === '' ? cookieSupport() : 'all'
  setCookieless(support === 'none')
  const countBefore = signOutCount
  const request = async (what: 'login' | 'register') => {
    const body = what === 'login' ? { email: account.email, password: account.password } : account
    const signedIn = await readSignedIn(await postAuth(base, what, body))
    if (signOutCount === countBefore) return signedIn
    await requestLogout(base, signedIn.refresh_token).catch(() => undefined)
    throw signedOutError()
  }
  const signedIn = await request(path)
  startSession(newSignIn(base), signedIn)
  if (support !== 'plain') return
  // Only its use shows whether the browser kept this server's cookie.
  const of = current
  try {
    await refresh()
  } catch (thrown) {
    if (of !== current || !isSessionOver(asApiError(thrown), base)) return
    setCookieless(true)
    remove(sessionKey(base))
    startSession(of, await keepOrLogOut(of, await request('login')))
    setState({ ...state })
    await revokeOwnSession(base, signedIn.access_token)
  }
}

/** Changes the password; the server ends every other session. */
export function changePassword(current_password: string, new_password: string): Promise<void> {
  const of = current
  const work = async () => {
    const token = await freshAccessToken(of)
    const answer = await postAuth(of.base, 'password', { current_password, new_password }, token)
    startSession(of, await keepOrLogOut(of, await readSignedIn(answer)))
  }
  return trackPending(
    work().catch((thrown: unknown) => {
      throw asApiError(thrown)
    }),
  )
}

/** Signs out in all tabs, also while the server is away. */
export function signOut(): Promise<void> {
  const { base } = current
  const refresh_token = savedSession(base)?.refresh_token ?? refreshToken
  if (usesCookie(base)) write(SIGNED_OUT_KEY, true)
  endSession(null, true)
  signingOut = requestLogout(base, refresh_token)
    .then(
      () => {
        // A pending request may still bring another cookie.
        if (!hasPending()) remove(SIGNED_OUT_KEY)
        else void allSettled().then(() => remove(SIGNED_OUT_KEY))
      },
      // The next start ends the cookie; until then nothing is shown.
      () => undefined,
    )
    .finally(() => {
      signingOut = null
    })
  return signingOut
}
