import Crypto
import LinuxSystem
package import Model
package import SystemPackage

/// The QEMU installation of this host. Snapshots depend on all of it.
package struct QEMUInstallation: Sendable, Equatable {
  package let executable: String
  /// Such as `7.2.22`.
  package let version: String
  /// The qboot firmware: microvm's default firmware corrupts guest memory when an initrd lies at the top of RAM.
  package let firmware: FilePath
  /// SHA-256 of the firmware, in hexadecimal.
  package let firmwareDigest: String

  private static let firmwarePlaces = [
    "/usr/share/qemu/qboot.rom", "/usr/share/seabios/qboot.rom", "/usr/local/share/qemu/qboot.rom",
  ]

  /// Finds QEMU.
  /// - Throws: `host_unavailable` with the name of the missing package.
  package static func find() async throws(MartletError) -> QEMUInstallation {
    guard let executable = Tool.find("qemu-system-x86_64") else {
      throw MartletError(.hostUnavailable, "QEMU is not installed on this host: apt-get install qemu-system-x86")
    }
    guard let firmware = firmwarePlaces.first(where: { Tool.isReadable($0) }) else {
      throw MartletError(
        .hostUnavailable, "the qboot firmware is not installed on this host: apt-get install qemu-system-data")
    }
    let output: ToolOutput
    let image: [UInt8]
    do {
      image = try SmallFile.read(firmware)
      output = try await Tool.run(executable, ["--version"], deadline: .seconds(10)).checked()
    } catch {
      throw MartletError(.hostUnavailable, "QEMU does not start on this host; run martlet doctor", cause: error)
    }
    return QEMUInstallation(
      executable: executable, version: parseVersion(output.outputText), firmware: FilePath(firmware),
      firmwareDigest: digest(image))
  }

  static func digest(_ bytes: [UInt8]) -> String {
    Hexadecimal.text(SHA256.hash(data: bytes))
  }

  /// `QEMU emulator version 7.2.22 (Debian …)` → `7.2.22`.
  static func parseVersion(_ text: String) -> String {
    let words = text.split(whereSeparator: \.isWhitespace)
    guard let index = words.firstIndex(of: "version"), index + 1 < words.count else { return "unknown" }
    return String(words[index + 1])
  }
}
