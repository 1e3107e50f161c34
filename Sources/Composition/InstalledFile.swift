import API
import Foundation
import LinuxSystem
import Model
import NIOCore
import SystemPackage

/// Files that are installed beside this program.
enum InstalledFile: String {
  case guestAgent = "envd"
  case pagerShim = "libmartlet-qemu-pager.so"

  /// Path of this program.
  static func program() throws(MartletError) -> FilePath {
    guard let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
      throw MartletError(.internalError, "/proc is not mounted; mount it and start the server again")
    }
    return FilePath(program)
  }

  /// Path of the file.
  /// - Throws: `host_unavailable` if the file is missing.
  func path() throws(MartletError) -> FilePath {
    let path = try Self.program().removingLastComponent().appending(rawValue)
    guard Tool.isReadable(path.string) else {
      throw MartletError(
        .hostUnavailable, "Martlet's file \(path) is missing; run make build, which puts it beside martlet")
    }
    return path
  }

  private static let documentationDirectory = "swagger-ui"
  /// Swagger UI's largest file has 1.6 MB.
  private static let maximumDocumentationFileBytes = 16_777_216

  /// Swagger UI's files; nil if any is missing, and then the server runs without them.
  static func documentation() -> DocumentationFiles? {
    guard let directory = try? program().removingLastComponent().appending(documentationDirectory) else { return nil }
    var contents: [String: ByteBuffer] = [:]
    for name in DocumentationFiles.contentTypes.keys {
      guard let file = FileHandle(forReadingAtPath: directory.appending(name).string) else { return nil }
      guard let data = try? file.read(upToCount: maximumDocumentationFileBytes) else { return nil }
      contents[name] = ByteBuffer(bytes: data)
    }
    return DocumentationFiles(contents)
  }
}
