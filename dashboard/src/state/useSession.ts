/** The current session, for components. */
import { useSyncExternalStore } from 'react'
import { session, type SessionState } from '../api/session'

export const useSession = (): SessionState => useSyncExternalStore(session.subscribe, session.state)

/** Whether the account is an admin; the server decides what it may do. */
export function useAdmin(): boolean {
  const state = useSession()
  return state.status === 'in' && state.user.role === 'admin'
}
