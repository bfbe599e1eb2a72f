import { SimpleGrid, Stack } from '@mantine/core'
import type { ReactNode } from 'react'
import { useAdmin } from '../../../state/useSession'
import { Card } from '../../../ui/Card'
import { PageTitle } from '../../../ui/PageTitle'
import { OwnSessions } from './OwnSessions'
import { OwnTokens } from './OwnTokens'
import { PasswordForm } from './PasswordForm'

/** The page of the caller's own account. */
export function AccountPage(): ReactNode {
  const admin = useAdmin()
  return (
    <>
      <PageTitle title="Account" />
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
        <Stack>
          <Card id="account.sessions" title="Sessions">
            <OwnSessions />
          </Card>
          <Card id="account.password" title="Password">
            <PasswordForm />
          </Card>
        </Stack>
        <Card id="account.tokens" title="Access tokens">
          <OwnTokens admin={admin} />
        </Card>
      </SimpleGrid>
    </>
  )
}
