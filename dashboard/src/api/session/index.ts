/**
 * Who is signed in, and the tokens.
 *
 * On the server that this page came from, the refresh token is in a cookie that no script can read, and the access token
 * in memory. On another server (`DASHBOARD_CONNECT_SRC`) the refresh token is in storage, and the sign-in page warns of
 * that. Every request belongs to the sign-in under which it began and ends with it: it is never repeated for the next
 * account, nor sent to another server.
 */
export { fetchRegistration, type User } from './authRequests'
export { authorized } from './authorized'
export { session, type SessionState } from './current'
export { refresh, verify } from './refresh'
export { changePassword, register, signIn, signOut, start } from './signIn'
