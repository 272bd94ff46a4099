//! The views that snapshots are sent from, and which rows of a view are a region's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_engine::base::ReadView;
use flotilla_host::core::message::{Body, Envelope};
use flotilla_host::driver::snapshot::Source;
use flotilla_types::{KeyRange, Region, RegionId, proto};
use prost::Message;

use crate::core::records::data_range;

/// Views that snapshots are sent from, by region.
#[derive(Clone, Default)]
pub struct Views {
    views: Arc<Mutex<BTreeMap<RegionId, NumberedView>>>,
}

impl Views {
    /// Keeps `view`, of checkpoint `number`, for each of `regions`.
    pub fn insert(&self, number: u64, regions: &[RegionId], view: &Arc<dyn ReadView>) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        for region in regions {
            views.insert(*region, (number, view.clone()));
        }
    }

    /// Lets go of a region's view.
    pub fn remove(&self, region: RegionId) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&region);
    }

    /// Where the rows of the snapshot that `envelope` carries are read from, as of checkpoint
    /// `number`. The error says why there are none.
    pub fn source(&self, envelope: &Envelope, number: u64) -> Result<Source, String> {
        let region = snapshot_region(envelope).ok_or("the message has no region")?;
        let view = self.get(region.id, number).ok_or("its view is gone")?;
        Ok(Source { view, range: data_range(&region.range) })
    }

    fn get(&self, region: RegionId, number: u64) -> Option<Arc<dyn ReadView>> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&region).filter(|(kept, _)| *kept == number).map(|(_, view)| view.clone())
    }
}

/// The range of the rows of the snapshot that `envelope` carries.
pub fn snapshot_range(envelope: &Envelope) -> Option<KeyRange> {
    snapshot_region(envelope).map(|region| data_range(&region.range))
}

/// A view, and the checkpoint that it is of.
type NumberedView = (u64, Arc<dyn ReadView>);

fn snapshot_region(envelope: &Envelope) -> Option<Region> {
    let Body::Message(message) = &envelope.body else { return None };
    let data = message.snapshot.as_ref()?.data.clone();
    let region = proto::Region::decode(data).ok()?;
    Region::try_from(region).ok()
}
