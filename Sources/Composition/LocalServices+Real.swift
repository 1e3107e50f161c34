package import CommandLine
import Glibc
import LinuxSystem
import SystemPackage

extension LocalServices {
  /// The local commands with their real implementations.
  package static var real: LocalServices {
    LocalServices(
      version: AllInOneServer.version,
      up: { try await AllInOneServer($0).run() },
      doctor: {
        [await AcceleratorCheck.run($0), await DatabaseCheck.run($0.database)] + (await NetworkCheck.run($0))
      },
      buildImages: { directory in
        umask(0o077)
        return try await StepReport().step("images") {
          try await PlatformImages(directory: FilePath(directory)).ensure($0)
        }
      },
      buildTemplate: { options in
        umask(0o077)
        return try await PlatformImages(directory: FilePath(options.imageDirectory)).buildTemplate(options) { text in
          guard isatty(STDERR_FILENO) == 1 else { return }
          let bytes = Array("\r\u{1B}[K\(text.prefix(100))".utf8)
          _ = write(STDERR_FILENO, bytes, bytes.count)
        }
      },
      createUser: {
        umask(0o077)
        return try await LocalAccounts(dataDirectory: FilePath($0.dataDirectory), choice: $0.database).create($0.user)
      })
  }
}
