/** Who is signed in, for components. */
import { useSyncExternalStore } from 'react'
import { session, type SessionState } from '../api/session'

export const useSession = (): SessionState => useSyncExternalStore(session.subscribe, session.state)

/** The console is for admins; what anybody may do is the server's to say. */
export function useAdmin(): boolean {
  const state = useSession()
  return state.status === 'in' && state.user.role === 'admin'
}
