import { Badge, Button, Group, Menu, Paper, Select, Table, Text, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useInfiniteQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { pluralize } from '../../../ui/pluralize'
import { RelativeTime } from '../../../ui/RelativeTime'
import { usersQuery } from '../queries'
import { ChangeUser, type UserChange } from './ChangeUser'

/** The list of accounts, with their roles and states. */
export function UsersPage(): ReactNode {
  const [text, setText] = useState('')
  const [search] = useDebouncedValue(text.trim(), 250)
  const [role, setRole] = useState<'' | 'user' | 'admin'>('')
  const [active, setActive] = useState<'' | 'true' | 'false'>('')
  const [change, setChange] = useState<UserChange>(null)
  const query = useInfiniteQuery({ ...usersQuery({ search, role, active }), placeholderData: keepPreviousData })
  const users = query.data?.pages.flatMap((page) => page.items) ?? []
  return (
    <>
      <PageTitle title="Users" />
      <Group mb="sm" gap="xs" role="search">
        <TextInput leftSection={<IconSearch size={16} aria-hidden />} placeholder="E-mail or name" aria-label="Search users" value={text} maxLength={128} onChange={(e) => setText(e.currentTarget.value)} w={{ base: '100%', xs: 260 }} />
        <Select aria-label="Role" data={[{ value: '', label: 'All roles' }, { value: 'admin', label: 'Admins' }, { value: 'user', label: 'Users' }]} value={role} onChange={(next) => setRole(next ?? '')} w={140} allowDeselect={false} />
        <Select aria-label="Activation" data={[{ value: '', label: 'Active or deactivated' }, { value: 'true', label: 'Active' }, { value: 'false', label: 'Deactivated' }]} value={active} onChange={(next) => setActive(next ?? '')} w={150} allowDeselect={false} />
      </Group>
      {query.isPending && <LoadingRows rows={6} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="The accounts cannot be shown" />}
      {query.isSuccess && users.length === 0 && (
        <Paper withBorder>
          <EmptyState title="No matching accounts">People create their accounts on the sign-in page, with an invitation if the server requires one.</EmptyState>
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
                  <Table.Th>Created</Table.Th>
                  <Table.Th aria-label="Actions" />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {users.map((user) => (
                  <Table.Tr key={user.id} data-user={user.email}>
                    <Table.Td>
                      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                        <Link to="/users/$id" params={{ id: user.id }}>
                          {user.name ?? user.email}
                        </Link>
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
                        {user.failed_logins > 0 ? `, ${pluralize(user.failed_logins, 'wrong password')}` : ''}
                      </Text>
                    </Table.Td>
                    <Table.Td fz="sm">
                      <RelativeTime at={user.created_at} />
                    </Table.Td>
                    <Table.Td ta="right">
                      <Menu position="bottom-end">
                        <Menu.Target>
                          <Button size="compact-sm" variant="default" aria-label={`Change ${user.email}`}>
                            Change
                          </Button>
                        </Menu.Target>
                        <Menu.Dropdown>
                          <Menu.Item onClick={() => setChange({ user, kind: user.role === 'admin' ? 'user' : 'admin' })}>
                            {user.role === 'admin' ? 'Remove admin role' : 'Grant admin role'}
                          </Menu.Item>
                          <Menu.Item onClick={() => setChange({ user, kind: user.active ? 'deactivate' : 'activate' })}>{user.active ? 'Deactivate' : 'Activate'}</Menu.Item>
                          <Menu.Item onClick={() => setChange({ user, kind: 'sessions' })}>End all sessions</Menu.Item>
                          <Menu.Item renderRoot={(props) => <Link to="/devices" search={{ owner: user.id }} {...props} />}>Show devices</Menu.Item>
                          <Menu.Item renderRoot={(props) => <Link to="/audit" search={{ actor: user.id }} {...props} />}>
                            Show activity
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
                Load more
              </Button>
            </Group>
          )}
        </Paper>
      )}
      <ChangeUser change={change} close={() => setChange(null)} />
    </>
  )
}
