import Crypto
import Foundation
import Model

/// `manifest.json`: JSON, then one line `sha256 <64 hexadecimal digits>` over all bytes before that line.
extension GenerationManifest {
  static let maximumFileBytes = 262_144
  /// Maximum number of disk layers below a generation's own.
  static let maximumDiskParents = MemoryGeometry.maximumGenerations - 1

  private static let trailerPrefix = "sha256 "
  private static let trailerBytes = trailerPrefix.utf8.count + 64 + 1

  func encoded() throws(MartletError) -> [UInt8] {
    do {
      var body = try Array(Self.encoder.encode(self))
      body.append(UInt8(ascii: "\n"))
      return body + Self.trailer(of: body)
    } catch {
      throw MartletError(.internalError, "the snapshot's manifest could not be written", cause: error)
    }
  }

  /// - Throws: `wrongChecksum`, `unsupportedVersion`, `invalid`.
  init(decoding bytes: [UInt8]) throws(SnapshotFormatError) {
    guard bytes.count > Self.trailerBytes, bytes.count <= Self.maximumFileBytes else { throw .wrongSize }
    let body = bytes[0..<(bytes.count - Self.trailerBytes)]
    guard Array(bytes[body.count...]) == Self.trailer(of: Array(body)) else { throw .wrongChecksum }
    let data = Data(body)
    if let version = try? Self.decoder.decode(Version.self, from: data), version.format != Self.currentFormat {
      throw .unsupportedVersion(UInt32(clamping: version.format))
    }
    do {
      self = try Self.decoder.decode(Self.self, from: data)
    } catch {
      throw .invalid("field")
    }
    guard diskParents.count <= Self.maximumDiskParents, !diskParents.contains(id) else {
      throw .invalid("list of disk layers")
    }
    guard memoryParents.count < MemoryGeometry.maximumGenerations else { throw .invalid("list of memory layers") }
  }

  private struct Version: Decodable {
    let format: Int
  }

  private static func trailer(of body: [UInt8]) -> [UInt8] {
    Array("\(trailerPrefix)\(Hexadecimal.text(SHA256.hash(data: body)))\n".utf8)
  }

  private static var encoder: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .millisecondsSince1970
    return encoder
  }

  private static var decoder: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .millisecondsSince1970
    return decoder
  }
}
