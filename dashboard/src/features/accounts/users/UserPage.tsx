import { Badge, Button, Group, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, unwrap } from '../../../api/client'
import { Card } from '../../../ui/Card'
import { DescriptionItem } from '../../../ui/DescriptionItem'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { RelativeTime } from '../../../ui/RelativeTime'
import { userQuery, userSessionsQuery, userTokensQuery } from '../queries'
import { SessionList } from '../sessions/SessionList'
import { TokenList } from '../tokens/TokenList'
import { type ChangeKind, ChangeUser, type UserChange } from './ChangeUser'

const route = getRouteApi('/users/$id')

function Sessions({ id }: { id: string }): ReactNode {
  const query = useQuery(userSessionsQuery(id))
  const client = useQueryClient()
  const end = async (session_id: string) => {
    await unwrap(api().DELETE('/api/v1/admin/users/{id}/sessions/{session_id}', { params: { path: { id, session_id } } }))
    await client.invalidateQueries({ queryKey: ['user', id] })
  }
  return (
    <>
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <SessionList sessions={query.data.items} end={end} />}
    </>
  )
}

function Tokens({ id }: { id: string }): ReactNode {
  const query = useQuery(userTokensQuery(id))
  const client = useQueryClient()
  const revoke = async (token_id: string) => {
    await unwrap(api().DELETE('/api/v1/admin/users/{id}/tokens/{token_id}', { params: { path: { id, token_id } } }))
    await client.invalidateQueries({ queryKey: ['user', id] })
  }
  return (
    <>
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <TokenList tokens={query.data.items} revoke={revoke} />}
    </>
  )
}

/** The page of one account, for admins. */
export function UserPage(): ReactNode {
  const { id } = route.useParams()
  return <UserDetails key={id} id={id} />
}

function UserDetails({ id }: { id: string }): ReactNode {
  const query = useQuery(userQuery(id))
  const [change, setChange] = useState<UserChange>(null)
  if (query.isPending) return <LoadingRows rows={8} />
  if (query.data === undefined)
    return (
      <>
        <PageTitle title="Account" />
        <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="This account cannot be shown" />
        <Text mt="md" size="sm">
          <Link to="/users">All users</Link>
        </Text>
      </>
    )
  const user = query.data
  const button = (kind: ChangeKind, text: string) => (
    <Button size="xs" variant="default" onClick={() => setChange({ user, kind })}>
      {text}
    </Button>
  )
  return (
    <>
      <PageTitle title={user.name ?? user.email}>
        <Badge variant="outline" className="hx-badge">{user.role}</Badge>
        {!user.active && <Badge color="red" variant="light" className="hx-badge hx-failed">deactivated</Badge>}
      </PageTitle>
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
        <Stack>
          <Card id="user.facts" title="About">
            <SimpleGrid component="dl" cols={{ base: 1, xs: 2 }} spacing="sm" m={0}>
              <DescriptionItem name="E-mail">{user.email}</DescriptionItem>
              <DescriptionItem name="Created">
                <RelativeTime at={user.created_at} />
              </DescriptionItem>
              <DescriptionItem name="Failed sign-ins in a row">{user.failed_logins}</DescriptionItem>
              <DescriptionItem name="Id">{user.id}</DescriptionItem>
            </SimpleGrid>
            <Group mt="md" gap="xs">
              <Text size="sm">
                <Link to="/devices" search={{ owner: user.id }}>
                  Show devices
                </Link>
              </Text>
              <Text size="sm">
                <Link to="/audit" search={{ actor: user.id }}>
                  Show activity
                </Link>
              </Text>
            </Group>
          </Card>
          <Card id="user.manage" title="Manage">
            <Group gap="xs">
              {user.role === 'admin' ? button('user', 'Remove admin role') : button('admin', 'Grant admin role')}
              {user.active ? button('deactivate', 'Deactivate') : button('activate', 'Activate')}
            </Group>
          </Card>
        </Stack>
        <Stack>
          <Card
            id="user.sessions"
            title="Sessions"
            aside={
              <Button size="compact-xs" variant="default" onClick={() => setChange({ user, kind: 'sessions' })}>
                End all
              </Button>
            }
          >
            <Sessions id={id} />
          </Card>
          <Card id="user.tokens" title="Access tokens">
            <Tokens id={id} />
          </Card>
        </Stack>
      </SimpleGrid>
      <ChangeUser change={change} close={() => setChange(null)} />
    </>
  )
}
