import { MantineProvider } from '@mantine/core'
import { render, screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { expect, test, vi } from 'vitest'
import { Copy } from './CopyButton'

const shown = () => render(<MantineProvider><Copy text="req-1" /></MantineProvider>)

test('a page that is not secure copies the old way, and says where it cannot', async () => {
  const user = userEvent.setup({ writeToClipboard: false })
  Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })
  let selected = ''
  const copy = vi.fn(() => {
    selected = (document.querySelector('textarea') as HTMLTextAreaElement).value
    return true
  })
  Object.assign(document, { execCommand: copy })
  shown()
  await user.click(screen.getByRole('button', { name: 'Copy' }))
  await screen.findByText('Copied')
  expect([copy.mock.calls.length, selected, document.querySelector('textarea')]).toEqual([1, 'req-1', null])
  copy.mockReturnValueOnce(false)
  await user.click(screen.getByRole('button'))
  await screen.findByText('Select and copy it by hand')
})
