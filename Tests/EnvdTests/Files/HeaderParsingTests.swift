import CLinux
import Glibc
import Testing

@testable import Envd

@Suite("headers and queries of /files")
struct HeaderParsingTests {
  @Test(
    "Range headers are parsed",
    arguments: [
      (nil, .whole), ("bytes=0-4", .part(0..<5)), ("bytes=5-", .part(5..<10)), ("bytes=-3", .part(7..<10)),
      ("bytes=-99", .part(0..<10)),
      ("bytes=2-999", .part(2..<10)), ("bytes=10-", .unsatisfiable), ("bytes=-0", .unsatisfiable),
      ("bytes=5-2", .whole),
      ("bytes=0-1,4-5", .whole), ("items=0-1", .whole), ("bytes=", .whole), ("bytes=a-b", .whole),
      ("bytes=--1", .whole),
      ("bytes=99999999999999999999-", .whole),
    ] as [(String?, ByteRange)])
  func ranges(header: String?, expected: ByteRange) {
    #expect(ByteRange(header: header, size: 10) == expected)
  }

  @Test("every range of an empty file is unsatisfiable", arguments: ["bytes=0-0", "bytes=0-", "bytes=-1"])
  func emptyFile(header: String) {
    #expect(ByteRange(header: header, size: 0) == .unsatisfiable)
  }

  @Test(
    "Accept-Encoding headers are parsed",
    arguments: [
      (nil, .identity), ("", .identity), ("gzip, deflate", .gzipAllowed), ("gzip", .gzipAllowed),
      ("br, *;q=0.5", .gzipAllowed),
      ("gzip;q=0", .identity), ("identity;q=0, gzip", .gzipRequired), ("*;q=0, gzip;q=1", .gzipRequired),
      ("br", .identity),
    ] as [(String?, ContentCoding)])
  func codings(header: String?, expected: ContentCoding) throws {
    #expect(try ContentCoding(acceptEncoding: header) == expected)
  }

  @Test(
    "a client that accepts neither gzip nor identity gets not acceptable",
    arguments: ["identity;q=0", "*;q=0", "br, identity;q=0"])
  func notAcceptable(header: String) {
    #expect { try ContentCoding(acceptEncoding: header) } throws: { ($0 as? FileFailure)?.reason == .notAcceptable }
  }

  @Test("queries are decoded like forms; the first of equal names counts")
  func query() throws {
    let query = try FilesQuery("path=%2Ftmp%2Fa+b%2Bc&username=&path=other&x")
    #expect(query.path == "/tmp/a b+c")
    #expect(query.username == nil)
    #expect(try FilesQuery(nil).path == nil)
    #expect(try FilesQuery("path=").path == "")
  }

  @Test(
    "malformed escapes and bytes that are not UTF-8 are refused",
    arguments: ["path=%", "path=%4", "path=%zz", "path=%FF%FE"])
  func badQuery(query: String) {
    #expect { try FilesQuery(query) } throws: { ($0 as? FileFailure)?.reason == .invalidArgument }
  }

  private static let modeTexts: [(UInt32, String)] = [
    (0o100644, "-rw-r--r--"), (0o040755, "drwxr-xr-x"), (0o120777, "Lrwxrwxrwx"), (0o041777, "dtrwxrwxrwx"),
    (0o104755, "urwxr-xr-x"),
    (0o020666, "Dcrw-rw-rw-"), (0o010600, "prw-------"), (0o140000, "S---------"),
  ]

  @Test("file modes are formatted like in Go", arguments: modeTexts)
  func modes(mode: mode_t, expected: String) {
    #expect(FileModeText.text(mode) == expected)
  }

  @Test(
    "file names in Content-Disposition are quoted or percent-encoded and cannot inject headers",
    arguments: [
      ("a b.txt", "inline; filename=\"a b.txt\""), ("a\"b", "inline; filename*=UTF-8''a%22b"),
      ("ä\r\nX: y", "inline; filename*=UTF-8''%C3%A4%0D%0AX%3A%20y"),
    ])
  func disposition(name: String, expected: String) {
    #expect(ContentDisposition.inline(filename: name) == expected)
  }

  @Test("metadata keys are lowercased and other headers ignored")
  func metadata() throws {
    let metadata = try FileMetadata(headers: [
      (name: "X-Metadata-Author", value: "Ann"), (name: "Content-Type", value: "x"),
      (name: "x-metadata-a b", value: "~"),
    ])
    #expect(metadata.values == ["author": "Ann", "a b": "~"])
  }

  @Test(
    "metadata that is empty, not printable ASCII or too long is refused",
    arguments: [
      ("X-Metadata-", "x"), ("X-Metadata-a", "\u{e9}"), ("X-Metadata-a", "a\u{7f}"), ("X-Metadata-a", "tab\t"),
      ("X-Metadata-" + String(repeating: "k", count: 247), "x"), ("X-Metadata-a", String(repeating: "v", count: 4_087)),
    ])
  func badMetadata(name: String, value: String) {
    #expect { try FileMetadata(headers: [(name: name, value: value)]) } throws: {
      ($0 as? FileFailure)?.reason == .invalidArgument
    }
  }

  @Test("metadata up to the limits is accepted")
  func metadataLimits() throws {
    _ = try FileMetadata(headers: [(name: "X-Metadata-" + String(repeating: "k", count: 246), value: "x")])
    _ = try FileMetadata(headers: [(name: "X-Metadata-a", value: String(repeating: "v", count: 4_086))])
  }
}
