import { ActionIcon, AppShell, Badge, Burger, Button, Group, Menu, NavLink, Text, Tooltip, UnstyledButton } from '@mantine/core'
import { useDisclosure, useHotkeys } from '@mantine/hooks'
import { IconLogout, IconSearch, IconUserCircle } from '@tabler/icons-react'
import { Link, Outlet, useRouterState } from '@tanstack/react-router'
import { type ReactNode, useEffect, useState, useSyncExternalStore } from 'react'
import { serverClock } from '../api/serverClock'
import { BASE_PATH } from '../api/serverUrl'
import { session, signOut } from '../api/session'
import icon from '../icon.svg'
import { useConnectionState } from '../state/live'
import { useAdmin, useSession } from '../state/useSession'
import { lazyComponent } from '../ui/lazyComponent'
import { pluralize } from '../ui/pluralize'
import { type MenuPage, useMenuPages } from './navigation'

const CommandPalette = lazyComponent(() => import('./CommandPalette').then((m) => m.CommandPalette))

const CONNECTIONS = {
  live: { color: 'teal', text: 'Live', description: 'States are shown as they change.' },
  connecting: { color: 'gray.5', text: 'Connecting', description: 'Live states follow in a moment.' },
  waiting: { color: 'red', text: 'Not live', description: 'The server cannot be reached. Trying again; this page may be outdated.' },
  blocked: {
    color: 'red',
    text: 'Not live',
    description: 'The server answers, but no WebSocket opens: a proxy may be blocking WebSockets. Lists are refreshed every 30 seconds.',
  },
} as const

/** Whether the page is live; nothing where the page needs no live states. */
function ConnectionBadge(): ReactNode {
  const state = useConnectionState()
  if (state === 'off') return null
  const { color, text, description } = CONNECTIONS[state]
  return (
    <Tooltip label={description}>
      <Badge variant="dot" color={color} tt="none" role="status" aria-label={`Connection: ${text}. ${description}`}>
        {text}
      </Badge>
    </Tooltip>
  )
}

/** Warns of a clock that differs from the server's by minutes. */
function ClockBadge(): ReactNode {
  const minutes = Math.round(useSyncExternalStore(serverClock.subscribe, serverClock.skewMs) / 60_000)
  if (Math.abs(minutes) < 2) return null
  const difference = `${pluralize(Math.abs(minutes), 'minute')} ${minutes > 0 ? 'behind' : 'ahead of'} the server's`
  return (
    <Tooltip label={`The clock of this computer is ${difference}. Times are shown by the server's clock.`}>
      <Badge color="yellow" variant="light" className="hx-badge hx-stale" visibleFrom="xs">
        clock differs
      </Badge>
    </Tooltip>
  )
}

/** Warns of a session that ends with the page. */
function PersistenceBadge(): ReactNode {
  const warning = useSyncExternalStore(session.subscribe, session.persistenceWarning)
  if (warning === null) return null
  return (
    <Tooltip label={warning} multiline maw={320}>
      <Badge color="yellow" variant="light" className="hx-badge hx-stale" tabIndex={0} aria-label={warning}>
        not saved
      </Badge>
    </Tooltip>
  )
}

function AccountMenu(): ReactNode {
  const state = useSession()
  if (state.status !== 'in') return null
  const { user, base } = state
  const name = user.name ?? user.email
  return (
    <Menu position="bottom-end" withinPortal>
      <Menu.Target>
        <Button variant="subtle" color="gray" size="compact-md" leftSection={<IconUserCircle size={18} aria-hidden />} aria-label={`Your account: ${name}`}>
          <Text size="sm" truncate maw={160} visibleFrom="xs">
            {name}
          </Text>
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {user.email} · {user.role}
        </Menu.Label>
        {base !== '' && <Menu.Label>at {base}</Menu.Label>}
        <Menu.Item component={Link} to="/account" leftSection={<IconUserCircle size={16} aria-hidden />}>
          Account, sessions, tokens
        </Menu.Item>
        <Menu.Item leftSection={<IconLogout size={16} aria-hidden />} onClick={() => void signOut()}>
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}

function PageMenu({ pages, path }: { pages: readonly MenuPage[]; path: string }): ReactNode {
  return pages.map((page) => (
    <NavLink
      key={page.to}
      component={Link}
      to={page.to}
      label={page.label}
      leftSection={<page.icon size={18} aria-hidden />}
      active={path.startsWith(`${BASE_PATH}/dashboard${page.to}`) || path.startsWith(page.to)}
      variant="light"
      color="hexa"
    />
  ))
}

/** The frame around every page. */
export function Shell(): ReactNode {
  const [menuOpen, menu] = useDisclosure()
  const [paletteOpens, setPaletteOpens] = useState(0)
  const openPalette = () => setPaletteOpens((count) => count + 1)
  // With a modifier key, so that it cannot be typed by accident (WCAG 2.1.4); also inside of fields.
  useHotkeys([['mod+K', openPalette]], [])
  const admin = useAdmin()
  const pages = useMenuPages()
  const path = useRouterState({ select: (s) => s.location.pathname })
  useEffect(() => {
    menu.close()
    document.getElementById('main')?.focus({ preventScroll: true })
    // eslint-disable-next-line react-hooks/exhaustive-deps -- runs for each new page
  }, [path])
  return (
    <AppShell header={{ height: 56 }} navbar={{ width: 208, breakpoint: 'sm', collapsed: { mobile: !menuOpen } }} padding="md">
      <AppShell.Header px="md">
        <a href="#main" className="hx-skip">
          Skip to content
        </a>
        <Group h="100%" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={menuOpen} onClick={menu.toggle} hiddenFrom="sm" size="sm" aria-expanded={menuOpen} aria-label={menuOpen ? 'Close the menu' : 'Open the menu'} />
            <UnstyledButton component={Link} to="/" aria-label="Hexa, to the first page">
              <Group gap={8} wrap="nowrap">
                <img src={icon} alt="" width={26} height={26} />
                <Text fw={700}>Hexa</Text>
              </Group>
            </UnstyledButton>
          </Group>
          <Group gap="sm" wrap="nowrap">
            <ClockBadge />
            <PersistenceBadge />
            <ConnectionBadge />
            <Tooltip label="Go to a page or device (Ctrl K)">
              <ActionIcon variant="subtle" color="gray" aria-label="Go to a page or device" onClick={openPalette}>
                <IconSearch size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
            <AccountMenu />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label="Pages" className={menuOpen ? '' : 'hx-shut'} onKeyDown={(e) => e.key === 'Escape' && menu.close()}>
        <PageMenu pages={pages} path={path} />
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: 'none' }}>
        <Outlet />
        {paletteOpens > 0 && <CommandPalette openCount={paletteOpens} pages={pages} admin={admin} />}
      </AppShell.Main>
    </AppShell>
  )
}
