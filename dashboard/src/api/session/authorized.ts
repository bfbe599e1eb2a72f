/** Requests as the signed-in user. Each belongs to the sign-in under which it began, and ends with it. */
import { asApiError, fromAnswer, unreachable } from '../error'
import { serverUrl } from '../serverUrl'
import { isSessionOver, readJson, signedOutError } from './authRequests'
import { accessToken, assertCurrent, current, endSession, session, type SignIn } from './current'
import { refresh, SESSION_ENDED } from './refresh'

/** An access token is renewed this long before its end. */
const RENEW_BEFORE_MS = 30_000
/** The second token may come from another tab and have ended as well; the third is new. */
const MAX_SENDS = 3

/** An access token that stays valid for a while. */
export async function freshAccessToken(of: SignIn): Promise<string> {
  assertCurrent(of)
  if (accessToken === null || accessToken.until - performance.now() < RENEW_BEFORE_MS) await refresh()
  assertCurrent(of)
  return accessToken?.value ?? ''
}

/** `fetch` as the signed-in user: renews the token before its end, and after a 401. */
export async function authorized(request: Request): Promise<Response> {
  const of = current
  assertCurrent(of)
  // A request for another server would give it this one's token.
  if (!request.url.startsWith(`${serverUrl(of.base)}/`)) throw signedOutError()
  const signal = AbortSignal.any([request.signal, of.ended.signal])
  try {
    for (let sends = 1; ; sends += 1) {
      const sent = await freshAccessToken(of)
      const attempt = new Request(sends < MAX_SENDS ? request.clone() : request, { signal })
      attempt.headers.set('authorization', `Bearer ${sent}`)
      const answer = await unreachable(fetch(attempt))
      if (answer.status !== 401) return answer
      const body = await readJson(answer.clone())
      assertCurrent(of)
      const code = fromAnswer(answer, body).code
      // A wrong password is a 401 too, and no reason to renew the token.
      if (code !== 'invalid_token') {
        if (code === 'account_disabled') endSession('This account has been deactivated.', true)
        return answer
      }
      if (sends === MAX_SENDS) return answer
      // A slow answer may be about a token that has been renewed since.
      if (accessToken === null || accessToken.value === sent) await refresh(sends > 1)
    }
  } catch (thrown) {
    if (of.ended.signal.aborted) throw signedOutError()
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    const error = asApiError(thrown)
    if (isSessionOver(error, of.base) && session.state().status === 'in') endSession(SESSION_ENDED, true)
    throw error
  }
}
