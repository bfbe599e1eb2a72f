import { Button, Code, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, ask, type Schemas } from '../../../api/client'
import { faultsQuery, pluginsQuery } from '../../../api/queries'
import { Card } from '../../../ui/Card'
import { Confirm } from '../../../ui/ConfirmDialog'
import { Empty, Fact, PageTitle, Waiting, When } from '../../../ui/bits'
import { PluginState } from './PluginStateBadge'
import { notifyDone, Problem } from '../../../ui/ErrorAlert'

type Plugin = Schemas['PluginBody']

/** What a state means, as docs/PLUGINS.md has it. */
const MEANINGS: Record<string, string> = {
  active: 'It serves its devices.',
  degraded: 'It serves, and some calls failed lately.',
  quarantined: 'It is stopped for a while after too many faults; its devices are refused.',
  half_open: 'It is being tried again with a few calls.',
  faulted: 'It was given up after several tries. It stays so until it is put back to work here.',
  compiling: 'It is being compiled; its devices wait.',
  failed: 'It could not be loaded.',
}

function Faults({ id }: { id: string }): ReactNode {
  const query = useQuery(faultsQuery(id))
  if (query.isPending) return <Waiting rows={2} />
  if (query.isError) return <Problem thrown={query.error} retry={() => void query.refetch()} />
  if (query.data.items.length === 0) return <Empty title="No faults">Whatever a driver does wrong is contained and listed here, with a sample that has no secrets in it.</Empty>
  return (
    <Stack gap={0} role="list">
      {query.data.items.map((fault, n) => (
        <div key={`${fault.at} ${n}`} role="listitem" className="hx-line">
          <Group justify="space-between" wrap="nowrap" py={6} gap="sm">
            <div style={{ minWidth: 0 }}>
              <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                {fault.kind} in {fault.function}
                {fault.limit !== null && `: ${fault.limit.limit} ${fault.limit.actual} of ${fault.limit.allowed}`}
                {fault.device_uid !== null && (
                  <>
                    {' · '}
                    <Link to="/devices/$uid" params={{ uid: fault.device_uid }}>
                      {fault.device_uid}
                    </Link>
                  </>
                )}
              </Text>
              <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                {fault.message}
              </Text>
              {fault.sample !== '' && <Code style={{ overflowWrap: 'anywhere' }}>{fault.sample}</Code>}
            </div>
            <Text size="sm" style={{ whiteSpace: 'nowrap' }}>
              <When at={fault.at} />
            </Text>
          </Group>
        </div>
      ))}
    </Stack>
  )
}

function One({ plugin, reset }: { plugin: Plugin; reset: () => void }): ReactNode {
  const stopped = plugin.state !== 'active' || plugin.poisoned_devices > 0
  return (
    <Card id={`plugins.${plugin.id}`} title={`${plugin.id} ${plugin.version}`} aside={<PluginState state={plugin.state} />}>
      <Stack>
        <Text size="sm">
          {MEANINGS[plugin.state] ?? ''} {plugin.reason}
        </Text>
        <SimpleGrid component="dl" cols={{ base: 2, sm: 3, md: 6 }} spacing="sm" m={0}>
          <Fact name="Classes">{plugin.classes.map((c) => c.replace('_', ' ')).join(', ')}</Fact>
          <Fact name="Connected devices">{plugin.sessions.toLocaleString('en')}</Fact>
          <Fact name="Quarantined devices">{plugin.poisoned_devices.toLocaleString('en')}</Fact>
          <Fact name="Calls">{plugin.calls.toLocaleString('en')}</Fact>
          <Fact name="Faults">{plugin.faults.toLocaleString('en')}</Fact>
          <Fact name="Warm instances">{plugin.instances}</Fact>
        </SimpleGrid>
        <Faults id={plugin.id} />
        {stopped && (
          <Group>
            <Button size="xs" variant="default" onClick={reset}>
              Put it back to work
            </Button>
          </Group>
        )}
      </Stack>
    </Card>
  )
}

/** Drivers: how they do, what they did wrong, and the way back for one that was stopped. */
export function Plugins(): ReactNode {
  const query = useQuery(pluginsQuery)
  const client = useQueryClient()
  const [asked, setAsked] = useState<Plugin | null>(null)
  return (
    <>
      <PageTitle title="Plugins" />
      {query.isPending && <Waiting rows={4} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="The plugins cannot be shown" />}
      {query.data?.items.length === 0 && (
        <Paper withBorder>
          <Empty title="No plugins">
            Drivers are folders in the server&apos;s plugins folder (HEXA_PLUGINS_DIR), each with a plugin.toml and a plugin.wasm. Without the driver
            of its class a device is refused.
          </Empty>
        </Paper>
      )}
      <Stack>
        {query.data?.items.map((plugin) => (
          <One key={plugin.id} plugin={plugin} reset={() => setAsked(plugin)} />
        ))}
      </Stack>
      <Confirm
        opened={asked !== null}
        close={() => setAsked(null)}
        title={`Put ${asked?.id ?? ''} back to work`}
        action="Put it back"
        run={async () => {
          await ask(api().POST('/api/v1/admin/plugins/{id}/reset', { params: { path: { id: asked?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['plugins'] })
          notifyDone(`${asked?.id ?? ''} is tried again`)
        }}
      >
        It serves again, and devices that were quarantined are heard again. If what was wrong still is, it will be stopped again.
      </Confirm>
    </>
  )
}
