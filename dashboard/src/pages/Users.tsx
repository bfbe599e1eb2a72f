import { Badge, Button, Group, Menu, Paper, Select, Table, Text, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { type Account, api, ask } from '../api/client'
import { usersQuery } from '../api/queries'
import { Confirm } from '../ui/Confirm'
import { notifyDone, Problem } from '../ui/Problem'
import { counted, Empty, PageTitle, Waiting, When } from '../ui/bits'

type Asked = { user: Account; what: 'admin' | 'user' | 'activate' | 'deactivate' | 'sessions' } | null

const TEXTS: Record<NonNullable<Asked>['what'], { title: string; action: string; about: string; danger: boolean }> = {
  admin: { title: 'Make an admin', action: 'Make an admin', about: 'sees and switches every device, and manages accounts.', danger: true },
  user: { title: 'Make a user', action: 'Make a user', about: 'keeps their own devices only. Their open sessions have to refresh.', danger: false },
  activate: { title: 'Activate', action: 'Activate', about: 'can sign in again.', danger: false },
  deactivate: { title: 'Deactivate', action: 'Deactivate', about: 'is signed out at once everywhere, and cannot sign in. Their devices stay theirs.', danger: true },
  sessions: { title: 'End all sessions', action: 'End sessions', about: 'is signed out everywhere, and may sign in again.', danger: true },
}

/** Accounts: roles, activation, sessions. */
export function Users(): ReactNode {
  const [text, setText] = useState('')
  const [search] = useDebouncedValue(text.trim(), 250)
  const [role, setRole] = useState<'' | 'user' | 'admin'>('')
  const [active, setActive] = useState<'' | 'true' | 'false'>('')
  const [asked, setAsked] = useState<Asked>(null)
  const client = useQueryClient()
  const query = useInfiniteQuery({ ...usersQuery({ search, role, active }), placeholderData: keepPreviousData })
  const users = query.data?.pages.flatMap((page) => page.items) ?? []
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
      notifyDone(`${user.email}: ${TEXTS[what].title.toLowerCase()} done`)
    }
    await client.invalidateQueries({ queryKey: ['users'] })
  }
  return (
    <>
      <PageTitle title="Users" />
      <Group mb="sm" gap="xs" role="search">
        <TextInput leftSection={<IconSearch size={16} aria-hidden />} placeholder="E-mail or name" aria-label="Search users" value={text} maxLength={128} onChange={(e) => setText(e.currentTarget.value)} w={{ base: '100%', xs: 260 }} />
        <Select aria-label="Role" data={[{ value: '', label: 'Every role' }, { value: 'admin', label: 'Admins' }, { value: 'user', label: 'Users' }]} value={role} onChange={(next) => setRole(next ?? '')} w={140} allowDeselect={false} />
        <Select aria-label="Activation" data={[{ value: '', label: 'Active or not' }, { value: 'true', label: 'Active' }, { value: 'false', label: 'Deactivated' }]} value={active} onChange={(next) => setActive(next ?? '')} w={150} allowDeselect={false} />
      </Group>
      {query.isPending && <Waiting rows={6} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="The accounts cannot be shown" />}
      {query.isSuccess && users.length === 0 && (
        <Paper withBorder>
          <Empty title="Nobody fits">People make their accounts themselves on the sign-in page; here you say what they may do.</Empty>
        </Paper>
      )}
      {users.length > 0 && (
        <Paper withBorder>
          <Table.ScrollContainer minWidth={560}>
            <Table verticalSpacing="xs" highlightOnHover>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Account</Table.Th>
                  <Table.Th>Role</Table.Th>
                  <Table.Th>State</Table.Th>
                  <Table.Th>Since</Table.Th>
                  <Table.Th aria-label="Actions" />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {users.map((user) => (
                  <Table.Tr key={user.id} data-user={user.email}>
                    <Table.Td>
                      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                        {user.name ?? user.email}
                      </Text>
                      {user.name != null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          {user.email}
                        </Text>
                      )}
                    </Table.Td>
                    <Table.Td>
                      <Badge variant={user.role === 'admin' ? 'filled' : 'outline'} className={user.role === 'admin' ? '' : 'hx-badge'} tt="none">
                        {user.role}
                      </Badge>
                    </Table.Td>
                    <Table.Td>
                      <Text size="sm">
                        {user.active ? 'active' : 'deactivated'}
                        {user.failed_logins > 0 ? `, ${user.failed_logins} wrong passwords` : ''}
                      </Text>
                    </Table.Td>
                    <Table.Td fz="sm">
                      <When at={user.created_at} />
                    </Table.Td>
                    <Table.Td ta="right">
                      <Menu position="bottom-end">
                        <Menu.Target>
                          <Button size="compact-sm" variant="default" aria-label={`Change ${user.email}`}>
                            Change
                          </Button>
                        </Menu.Target>
                        <Menu.Dropdown>
                          <Menu.Item onClick={() => setAsked({ user, what: user.role === 'admin' ? 'user' : 'admin' })}>
                            {user.role === 'admin' ? 'Make a user' : 'Make an admin'}
                          </Menu.Item>
                          <Menu.Item onClick={() => setAsked({ user, what: user.active ? 'deactivate' : 'activate' })}>{user.active ? 'Deactivate' : 'Activate'}</Menu.Item>
                          <Menu.Item onClick={() => setAsked({ user, what: 'sessions' })}>End all sessions</Menu.Item>
                          <Menu.Item component={Link} to={`/audit?actor=${user.id}`}>
                            What they did
                          </Menu.Item>
                        </Menu.Dropdown>
                      </Menu>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
          {query.hasNextPage && (
            <Group justify="center" p="sm">
              <Button variant="default" size="xs" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
                More
              </Button>
            </Group>
          )}
        </Paper>
      )}
      <Confirm
        opened={asked !== null}
        close={() => setAsked(null)}
        title={asked === null ? '' : TEXTS[asked.what].title}
        action={asked === null ? '' : TEXTS[asked.what].action}
        danger={asked !== null && TEXTS[asked.what].danger}
        run={run}
      >
        {asked?.user.email} {asked === null ? '' : TEXTS[asked.what].about}
      </Confirm>
    </>
  )
}
