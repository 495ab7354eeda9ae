// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The answering side of a dynamic ask: called once by who answers, with a value of any type.
///
/// As ``Reply``: dropped without an answer it tells the asker so at once, a second answer is ignored, one that comes when the ask is
/// over is dropped and counted. An answer of another type than was asked for ends the ask as `wrongAnswer`.
public struct AnyReply: Sendable {
    let token: ReplyToken

    init(_ ask: Ask) { token = ReplyToken(ask) }

    /// Answers. Any thread; never blocks.
    public func callAsFunction(_ value: any Sendable) { token.ask.answer(dynamically: value) }
}
