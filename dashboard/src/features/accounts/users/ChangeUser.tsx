import { useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { type Account, api, ask } from '../../../api/client'
import { Confirm } from '../../../ui/ConfirmDialog'
import { notifyDone } from '../../../ui/ErrorAlert'
import { counted } from '../../../ui/bits'

export type What = 'admin' | 'user' | 'activate' | 'deactivate' | 'sessions'
export type Asked = { user: Account; what: What } | null

export const TEXTS: Record<What, { title: string; action: string; about: string; done: string; danger: boolean }> = {
  admin: { title: 'Make an admin', action: 'Make an admin', about: 'sees and switches every device, and manages accounts.', done: 'is an admin', danger: true },
  user: { title: 'Make a user', action: 'Make a user', about: 'keeps their own devices only. It holds from their next request on.', done: 'is a user', danger: false },
  activate: { title: 'Activate', action: 'Activate', about: 'can sign in again.', done: 'is active', danger: false },
  deactivate: { title: 'Deactivate', action: 'Deactivate', about: 'is signed out at once everywhere, and cannot sign in. Their devices stay theirs.', done: 'is deactivated', danger: true },
  sessions: { title: 'End all sessions', action: 'End sessions', about: 'is signed out everywhere, and may sign in again.', done: '', danger: true },
}

/** Asks before an account is changed, and changes it. */
export function Change({ asked, close }: { asked: Asked; close: () => void }): ReactNode {
  const client = useQueryClient()
  const run = async () => {
    if (asked === null) return
    const { user, what } = asked
    const path = { id: user.id }
    if (what === 'sessions') {
      const { ended } = await ask(api().DELETE('/api/v1/admin/users/{id}/sessions', { params: { path } }))
      notifyDone(`${counted(ended, 'session')} of ${user.email} ended`)
    } else {
      const body = what === 'admin' || what === 'user' ? { role: what } : { active: what === 'activate' }
      await ask(api().PATCH('/api/v1/admin/users/{id}', { params: { path }, body }))
      notifyDone(`${user.email} ${TEXTS[what].done}`)
    }
    await Promise.all([client.invalidateQueries({ queryKey: ['users'] }), client.invalidateQueries({ queryKey: ['user', user.id] })])
  }
  const text = asked === null ? null : TEXTS[asked.what]
  return (
    <Confirm opened={asked !== null} close={close} title={text?.title ?? ''} action={text?.action ?? ''} danger={text?.danger ?? false} run={run}>
      {asked?.user.email} {text?.about}
    </Confirm>
  )
}
