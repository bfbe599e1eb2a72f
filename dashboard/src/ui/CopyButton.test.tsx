import { MantineProvider } from '@mantine/core'
import { render, screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { expect, test, vi } from 'vitest'
import { CopyButton } from './CopyButton'

const shown = () => render(<MantineProvider><CopyButton text="req-1" /></MantineProvider>)

test('on a page that is not secure it copies without the clipboard API, and says when that fails', async () => {
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
  await screen.findByText('Copy failed: select the text and copy it')
})
