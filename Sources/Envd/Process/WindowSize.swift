import CLinux
import LinuxSystem
import SystemPackage

/// Size of a terminal in characters. Never 0 in either direction.
package struct WindowSize: Sendable, Equatable {
  package static let standard = WindowSize(columns: 80, rows: 24)

  package let columns: UInt16
  package let rows: UInt16

  /// 0 becomes the standard value; values that are too large become the largest possible value.
  package init(columns: UInt32, rows: UInt32) {
    self.columns = columns == 0 ? 80 : UInt16(clamping: columns)
    self.rows = rows == 0 ? 24 : UInt16(clamping: rows)
  }

  func apply(to terminal: OwnedDescriptor) throws(SystemError) {
    guard clinux_set_window_size(terminal.rawValue, columns, rows) == 0 else {
      throw SystemError.current("ioctl(TIOCSWINSZ)")
    }
  }
}
