//! Hears and forgets.

use crate::dialog::{Answered, ConnInfo, Observer};
use crate::http::{
    AbortReason, Events, H2Error, HeaderField, NotHttp, RequestHead, StreamHead, TunnelEnd, Waiting,
};

/// Nobody to tell anything.
pub(crate) struct Quiet;

pub(crate) struct Nobody;

impl Observer for Quiet {
    type Conn = ();
    type Requests<'a> = Nobody;
    fn open(&mut self, _: &ConnInfo) {}
    fn requests<'a>(&'a mut self, (): &'a mut ()) -> Nobody {
        Nobody
    }
    fn answer(&mut self, (): &mut (), _: &Answered) {}
    fn close(&mut self, (): ()) {}
}

impl Events for Nobody {
    fn head(&mut self, _: &RequestHead<'_>) {}
    fn body(&mut self, _: &[u8], _: u64) {}
    fn end(&mut self, _: u64) {}
    fn abort(&mut self, _: AbortReason) {}
    fn refused(&mut self, _: AbortReason) {}
    fn h2_begin(&mut self, _: bool) {}
    fn stream_head(&mut self, _: &StreamHead<'_>) {}
    fn stream_data(&mut self, _: u32, _: &[u8], _: bool, _: u64) {}
    fn stream_trailers(&mut self, _: u32, _: &[HeaderField<'_>], _: u64) {}
    fn stream_end(&mut self, _: u32, _: u64) {}
    fn stream_abort(&mut self, _: u32, _: AbortReason, _: Option<u32>) {}
    fn stream_cancelled(&mut self, _: u32, _: u32) {}
    fn h2_error(&mut self, _: H2Error) {}
    fn waiting(&mut self, _: Waiting, _: bool) {}
    fn tunnel(&mut self, _: u64) {}
    fn tunnel_data(&mut self, _: &[u8], _: u64) {}
    fn tunnel_frames(&mut self, _: u64, _: u64) {}
    fn tunnel_end(&mut self, _: TunnelEnd) {}
    fn parsed(&mut self, _: u64) {}
    fn not_http(&mut self, _: NotHttp, _: u64) {}
    fn skipped(&mut self, _: u64) {}
    fn buffered(&mut self, _: i64) {}
}
