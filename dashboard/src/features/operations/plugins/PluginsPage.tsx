import { Button, Code, Group, Paper, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, type Schemas, unwrap } from '../../../api/client'
import { Card } from '../../../ui/Card'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { DescriptionItem } from '../../../ui/DescriptionItem'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert, notifySuccess } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { RelativeTime } from '../../../ui/RelativeTime'
import { faultsQuery, pluginsQuery } from '../queries'
import { PluginStateBadge } from './PluginStateBadge'

type Plugin = Schemas['PluginBody']

/** The meaning of each state (docs/PLUGINS.md). */
const MEANINGS: Record<string, string> = {
  active: 'Serving its devices.',
  degraded: 'Serving its devices; some calls failed recently.',
  quarantined: 'Stopped for a while after too many faults; its devices are refused.',
  half_open: 'Being tested with a few calls after it was stopped.',
  faulted: 'Stopped for good after several attempts. Reset it when the cause is fixed.',
  compiling: 'Being compiled; its devices wait.',
  failed: 'Could not be loaded.',
}

function Faults({ id }: { id: string }): ReactNode {
  const query = useQuery(faultsQuery(id))
  if (query.isPending) return <LoadingRows rows={2} />
  if (query.isError) return <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />
  if (query.data.items.length === 0) return <EmptyState title="No faults">Faults of the plugin are listed here, each with a sample of its input without secrets.</EmptyState>
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
              <RelativeTime at={fault.at} />
            </Text>
          </Group>
        </div>
      ))}
    </Stack>
  )
}

function PluginCard({ plugin, reset }: { plugin: Plugin; reset: () => void }): ReactNode {
  const resettable = plugin.state !== 'active' || plugin.poisoned_devices > 0
  return (
    <Card id={`plugins.${plugin.id}`} title={`${plugin.id} ${plugin.version}`} aside={<PluginStateBadge state={plugin.state} />}>
      <Stack>
        <Text size="sm">
          {MEANINGS[plugin.state] ?? ''} {plugin.reason}
        </Text>
        <SimpleGrid component="dl" cols={{ base: 2, sm: 3, md: 6 }} spacing="sm" m={0}>
          <DescriptionItem name="Classes">{plugin.classes.map((c) => c.replace('_', ' ')).join(', ')}</DescriptionItem>
          <DescriptionItem name="Connected devices">{plugin.sessions.toLocaleString('en')}</DescriptionItem>
          <DescriptionItem name="Quarantined devices">{plugin.poisoned_devices.toLocaleString('en')}</DescriptionItem>
          <DescriptionItem name="Calls">{plugin.calls.toLocaleString('en')}</DescriptionItem>
          <DescriptionItem name="Faults">{plugin.faults.toLocaleString('en')}</DescriptionItem>
          <DescriptionItem name="Warm instances">{plugin.instances}</DescriptionItem>
        </SimpleGrid>
        <Faults id={plugin.id} />
        {resettable && (
          <Group>
            <Button size="xs" variant="default" onClick={reset}>
              Reset plugin
            </Button>
          </Group>
        )}
      </Stack>
    </Card>
  )
}

/** The plugins with their states and faults; a stopped one can be reset. */
export function PluginsPage(): ReactNode {
  const query = useQuery(pluginsQuery)
  const client = useQueryClient()
  const [resetting, setResetting] = useState<Plugin | null>(null)
  return (
    <>
      <PageTitle title="Plugins" />
      {query.isPending && <LoadingRows rows={4} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="The plugins cannot be shown" />}
      {query.data?.items.length === 0 && (
        <Paper withBorder>
          <EmptyState title="No plugins">
            This server was built without plugins, and HEXA_PLUGINS_DIR has none: a plugin is a folder there with a plugin.toml and a plugin.wasm. A device is refused while no plugin serves its class.
          </EmptyState>
        </Paper>
      )}
      <Stack>
        {query.data?.items.map((plugin) => (
          <PluginCard key={plugin.id} plugin={plugin} reset={() => setResetting(plugin)} />
        ))}
      </Stack>
      <ConfirmDialog
        opened={resetting !== null}
        close={() => setResetting(null)}
        title={`Reset ${resetting?.id ?? ''}`}
        action="Reset"
        run={async () => {
          await unwrap(api().POST('/api/v1/admin/plugins/{id}/reset', { params: { path: { id: resetting?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['plugins'] })
          notifySuccess(`${resetting?.id ?? ''} was reset`)
        }}
      >
        The plugin serves again, and its quarantined devices are accepted again. If the cause is not fixed, it will be stopped again.
      </ConfirmDialog>
    </>
  )
}
