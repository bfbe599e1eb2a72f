import { Button, Checkbox, Group, NumberInput, Stack, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { api, unwrap } from '../../../api/client'
import { idempotencyHeader } from '../../../api/idempotency'
import { withIdempotencyKey } from '../../../state/idempotentRequest'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { SecretDialog } from '../../../ui/SecretDialog'
import { tokensQuery } from '../queries'
import { TokenList } from '../tokens/TokenList'

const SCOPES = ['devices:read', 'devices:write', 'relays:write', 'preferences'] as const

interface TokenValues {
  name: string
  scopes: string[]
  /** Empty for a token that does not expire. */
  days: number | string
}

/** The form that creates an access token. */
function CreateToken({ admin }: { admin: boolean }): ReactNode {
  const form = useForm<TokenValues>({ initialValues: { name: '', scopes: ['devices:read'], days: 90 } })
  const [secret, setSecret] = useState<string | null>(null)
  const client = useQueryClient()
  const create = useMutation({
    mutationFn: ({ name, scopes, days }: TokenValues) => {
      const body = { name: name.trim(), scopes: scopes as never, ...(typeof days === 'number' ? { expires_in_days: days } : {}) }
      return withIdempotencyKey(['token', body], (key) => unwrap(api().POST('/api/v1/auth/tokens', { params: { header: idempotencyHeader(key) }, body })))
    },
    onSuccess: (token) => {
      setSecret(token.token)
      form.setFieldValue('name', '')
      void client.invalidateQueries({ queryKey: ['tokens'] })
    },
  })
  return (
    <>
      <form onSubmit={form.onSubmit((values) => create.mutate(values))}>
        <Stack gap="xs">
          <Group grow align="flex-end">
            <TextInput label="New token" placeholder="its purpose" required maxLength={64} {...form.getInputProps('name')} />
            <NumberInput label="Valid for (days)" min={1} max={3650} allowDecimal={false} placeholder="no limit" {...form.getInputProps('days')} />
          </Group>
          <Checkbox.Group label="Permissions" {...form.getInputProps('scopes')}>
            <Group gap="sm" mt={4}>
              {[...SCOPES, ...(admin ? (['admin:*'] as const) : [])].map((scope) => (
                <Checkbox key={scope} value={scope} label={scope} size="xs" />
              ))}
            </Group>
          </Checkbox.Group>
          {create.isError && <ErrorAlert thrown={create.error} title="The token was not created" />}
          <Group>
            <Button type="submit" size="xs" loading={create.isPending} disabled={form.values.scopes.length === 0}>
              Create token
            </Button>
          </Group>
        </Stack>
      </form>
      <SecretDialog title="New access token" value={secret} close={() => setSecret(null)}>
        It is shown only once. Copy it to where the program reads it.
      </SecretDialog>
    </>
  )
}

/** The caller's own access tokens. */
export function OwnTokens({ admin }: { admin: boolean }): ReactNode {
  const query = useQuery(tokensQuery)
  const client = useQueryClient()
  const revoke = async (id: string) => {
    await unwrap(api().DELETE('/api/v1/auth/tokens/{id}', { params: { path: { id } } }))
    await client.invalidateQueries({ queryKey: ['tokens'] })
  }
  return (
    <Stack gap="sm">
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <TokenList tokens={query.data.items} revoke={revoke} />}
      <CreateToken admin={admin} />
    </Stack>
  )
}
