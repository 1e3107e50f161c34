import API
import Foundation
import LinuxSystem
import Model
import NIOCore
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

  private static let documentationDirectory = "swagger-ui"
  /// Swagger UI's largest file has 1.6 MB.
  private static let maximumDocumentationFileBytes = 16_777_216

  /// Swagger UI's files, nil when they are not all there: the server serves without them.
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
