import Foundation
import LinuxSystem
import Model
import SystemPackage

/// What is installed beside this program.
enum InstalledFile: String {
  case guestAgent = "envd"
  case pagerShim = "libmartlet-qemu-pager.so"

  /// This program itself.
  static func program() throws(MartletError) -> FilePath {
    guard let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
      throw MartletError(.internalError, "/proc is not mounted")
    }
    return FilePath(program)
  }

  /// - Throws: `host_unavailable` when it is missing.
  func path() throws(MartletError) -> FilePath {
    let path = try Self.program().removingLastComponent().appending(rawValue)
    guard Tool.isReadable(path.string) else {
      throw MartletError(.hostUnavailable, "a part of Martlet is missing: \(path); make build puts it beside martlet")
    }
    return path
  }
}
