import { Button, Group, Stack, Text } from '@mantine/core'
import { type ReactNode, useState } from 'react'
import type { Schemas } from '../../../api/client'
import { Confirm } from '../../../ui/ConfirmDialog'
import { Empty, When } from '../../../ui/bits'

type Token = Schemas['TokenBody']

interface TokenListProps {
  tokens: readonly Token[]
  revoke: (id: string) => Promise<unknown>
}

/** What programs use in an account's name. */
export function TokenList({ tokens, revoke }: TokenListProps): ReactNode {
  const [ending, setEnding] = useState<Token | null>(null)
  return (
    <Stack gap="sm">
      {tokens.length === 0 && <Empty title="No tokens">For scripts and programs: each has only the rights that it was given, and can be taken back alone.</Empty>}
      {tokens.map((token) => (
        <Group key={token.id} justify="space-between" wrap="nowrap" data-token={token.id}>
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {token.name}
            </Text>
            <Text size="xs" c="dimmed">
              {token.scopes.join(', ')} · ends <When at={token.expires_at} /> · used <When at={token.last_used_at} />
            </Text>
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setEnding(token)}>
            Revoke
          </Button>
        </Group>
      ))}
      <Confirm opened={ending !== null} close={() => setEnding(null)} title={`Revoke ${ending?.name ?? ''}`} action="Revoke" danger run={() => revoke(ending?.id ?? '')}>
        Programs that use it are refused from the next request on.
      </Confirm>
    </Stack>
  )
}
