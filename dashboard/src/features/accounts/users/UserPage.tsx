import { Badge, Button, Group, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, ask } from '../../../api/client'
import { userQuery, userSessionsQuery, userTokensQuery } from '../../../api/queries'
import { userRoute } from '../../../router'
import { Card } from '../../../ui/Card'
import { Fact, PageTitle, Waiting, When } from '../../../ui/bits'
import { Problem } from '../../../ui/ErrorAlert'
import { SessionList } from '../sessions/SessionList'
import { TokenList } from '../tokens/TokenList'
import { type Asked, Change, type What } from './ChangeUser'

function Sessions({ id }: { id: string }): ReactNode {
  const query = useQuery(userSessionsQuery(id))
  const client = useQueryClient()
  const end = async (session_id: string) => {
    await ask(api().DELETE('/api/v1/admin/users/{id}/sessions/{session_id}', { params: { path: { id, session_id } } }))
    await client.invalidateQueries({ queryKey: ['user', id] })
  }
  return (
    <>
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <SessionList sessions={query.data.items} end={end} />}
    </>
  )
}

function Tokens({ id }: { id: string }): ReactNode {
  const query = useQuery(userTokensQuery(id))
  const client = useQueryClient()
  const revoke = async (token_id: string) => {
    await ask(api().DELETE('/api/v1/admin/users/{id}/tokens/{token_id}', { params: { path: { id, token_id } } }))
    await client.invalidateQueries({ queryKey: ['user', id] })
  }
  return (
    <>
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <TokenList tokens={query.data.items} revoke={revoke} />}
    </>
  )
}

/** One account, for admins. */
export function UserPage(): ReactNode {
  const { id } = userRoute.useParams()
  return <One key={id} id={id} />
}

function One({ id }: { id: string }): ReactNode {
  const query = useQuery(userQuery(id))
  const [asked, setAsked] = useState<Asked>(null)
  if (query.isPending) return <Waiting rows={8} />
  if (query.data === undefined)
    return (
      <>
        <PageTitle title="Account" />
        <Problem thrown={query.error} retry={() => void query.refetch()} title="This account cannot be shown" />
        <Text mt="md" size="sm">
          <Link to="/users">All users</Link>
        </Text>
      </>
    )
  const user = query.data
  const button = (what: What, text: string) => (
    <Button size="xs" variant="default" onClick={() => setAsked({ user, what })}>
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
              <Fact name="E-mail">{user.email}</Fact>
              <Fact name="Since">
                <When at={user.created_at} />
              </Fact>
              <Fact name="Wrong passwords in a row">{user.failed_logins}</Fact>
              <Fact name="Id">{user.id}</Fact>
            </SimpleGrid>
            <Group mt="md" gap="xs">
              <Text size="sm">
                <Link to="/devices" search={{ owner: user.id }}>
                  Their devices
                </Link>
              </Text>
              <Text size="sm">
                <Link to="/audit" search={{ actor: user.id }}>
                  What they did
                </Link>
              </Text>
            </Group>
          </Card>
          <Card id="user.manage" title="Manage">
            <Group gap="xs">
              {user.role === 'admin' ? button('user', 'Make a user') : button('admin', 'Make an admin')}
              {user.active ? button('deactivate', 'Deactivate') : button('activate', 'Activate')}
            </Group>
          </Card>
        </Stack>
        <Stack>
          <Card
            id="user.sessions"
            title="Sessions"
            aside={
              <Button size="compact-xs" variant="default" onClick={() => setAsked({ user, what: 'sessions' })}>
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
      <Change asked={asked} close={() => setAsked(null)} />
    </>
  )
}
